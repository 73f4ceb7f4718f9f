"""Errors for users. Every message names the file or setting, quotes the value and says what to do."""

from __future__ import annotations


class EvokdError(Exception):
    """The base class of all errors that are shown to a user without a traceback."""


class RecipeError(EvokdError):
    """The recipe, or something that it names, cannot be used. `problems` holds one line per problem."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DataError(EvokdError):
    """Seeds, dev or test data cannot be read, or do not fit the task."""


class WorkspaceError(EvokdError):
    """The run's folder cannot be used: another process uses it, it belongs to another recipe, or it is damaged."""


class MirrorError(EvokdError):
    """The mirror of a run folder cannot be read or written, or belongs to another folder."""


class TeacherError(EvokdError):
    """The teacher could not be opened, stopped answering, or gave no usable answer."""


class BudgetSpent(EvokdError):
    """The run has used what its recipe allows. It ends with what is complete, and goes on with a larger budget."""


class EngineStopped(TeacherError):
    """An open engine died. Its prompts have no answer; another engine could answer them."""


class StudentError(EvokdError):
    """The student could not be loaded or trained."""


class PublishError(EvokdError):
    """The round could not be published, or it is unknown whether it was."""


class RevisionConflict(PublishError):
    """Another client published to the repository after this round's parent."""


class VerificationError(EvokdError):
    """A file or a row differs from its manifest. The message names it."""
