"""What students share that start from a pretrained model, an encoder if nothing else is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evokd_data.errors import StudentError
from evokd_data.models import Model, ModelReference, download_model
from evokd_data.registry import resolve
from evokd_data.settings import identity
from evokd_data.students import STUDENTS, Student


class OnBaseModel:
    """Mixed into a student whose settings `model` and `revision` name the pretrained model that it starts from."""

    model: str
    revision: str | None

    @property
    def base_model(self) -> ModelReference:
        return ModelReference(self.model, self.revision)

    def identity(self) -> Mapping[str, Any]:
        settings = {key: value for key, value in identity(self).items() if key not in ("model", "revision")}
        return {"base": dict(self._base().identity), **settings}

    def few_shot(self) -> Student:
        return self._of_kind("contrastive")

    def quick(self) -> Student:
        return self._of_kind("frozen")

    def _of_kind(self, kind: str) -> Student:
        student: Student = resolve(STUDENTS, kind)(self.model, self.revision)  # such students import this module
        return student

    def _base(self) -> Model:
        """The pretrained model's files on this machine. Raises StudentError when it cannot be had."""
        return download_model(self.base_model, "student", StudentError)
