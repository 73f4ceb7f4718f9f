"""What can go wrong in words a user can act on. Every message names the file or setting, quotes the value, says what to do."""

from __future__ import annotations


class EvokdError(Exception):
    """The root of all errors meant to be shown to a person, without a traceback."""


class RecipeError(EvokdError):
    """The recipe, or something it names, is not usable. `problems` holds one line each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class DataError(EvokdError):
    """Seeds, dev or test data that cannot be read, or do not fit the task."""


class WorkspaceError(EvokdError):
    """The run's folder is in the way: in use, from another recipe, or damaged."""


class MirrorError(EvokdError):
    """The copy of a run folder elsewhere cannot be read or written, or is another folder's."""


class TeacherError(EvokdError):
    """The teacher could not be opened, stopped answering, or answered nothing of use."""


class EngineStopped(TeacherError):
    """An open engine died: what it was asked has no answer, and could be asked of another."""


class StudentError(EvokdError):
    """The student could not be loaded or trained."""


class PublishError(EvokdError):
    """The round is not (known to be) on the Hub."""


class RevisionConflict(PublishError):
    """Somebody else published to the repository since this round's parent."""


class VerificationError(EvokdError):
    """Something differs from its manifest. The message names it."""
