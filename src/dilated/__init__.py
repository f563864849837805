"""Dense prediction that keeps its resolution: dilated networks and multi-scale context for semantic segmentation.

    import dilated
    predictor = dilated.Predictor(dilated.load("street"))
    predictor("photo.jpg").overlay().save("labelled.jpg")

The names below are the public surface, with their types in `__init__.pyi`. They are imported when first used: PyTorch
takes seconds, and `dilated --help` should not.
"""

from importlib import import_module
from typing import Any

from dilated._version import __version__ as __version__

_EXPORTS = {
    "api": ("Run", "TrainOptions", "compare", "evaluate", "plan", "train"),
    "auditing": ("AuditOptions", "audit"),
    "cross_validation": ("train_folds",),
    "data.check.check": ("check",),
    "data.convert": ("ConvertOptions", "convert"),
    "data.dataset": ("Dataset", "open_dataset"),
    "data.labels": ("Classes",),
    "data.splitting": ("SplitOptions", "split"),
    "deploy.export": ("ExportOptions", "export"),
    "deploy.serve": ("serve",),
    "deploy.serving.options": ("ServeOptions",),
    "dilation.dilate": ("dilate",),
    "errors": ("InputError", "Interrupted"),
    "evaluation.confusion": ("ConfusionMatrix",),
    "evaluation.score": ("ScoreOptions", "score"),
    "evaluation.tune": ("TuneOptions",),
    "fields.arithmetic": ("receptive_field",),
    "fields.effective": ("effective_field",),
    "kernels.accelerate": ("accelerate",),
    "models.adapter": ("AdapterConfig", "add_context"),
    "models.context": ("ContextModule",),
    "models.crf_rnn": ("CRFRNN",),
    "models.dense_crf": ("DenseCRF",),
    "weights.published": ("published",),
    "models.multi_scale": ("MultiScale",),
    "models.segmenter": ("Segmenter", "SegmenterConfig"),
    "prediction.prediction": ("Prediction",),
    "prediction.predictor": ("Predictor",),
    "report.write": ("write_report",),
    "studies.request": ("StudyOptions",),
    "studies.study": ("study",),
    "training.callbacks": ("Callback",),
    "training.config": ("Recipe", "load_recipe"),
    "tuning": ("tune",),
    "weights.bundled": ("load", "save"),
    "weights.hub": ("from_pretrained", "push_to_hub", "save_pretrained"),
}
_MODULES = {"fields": "dilated.fields", "losses": "dilated.training.losses", "paper": "dilated.paper"}

__all__ = sorted([*_MODULES, *(name for names in _EXPORTS.values() for name in names)])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    for module, names in _EXPORTS.items():
        if name in names:
            return getattr(import_module(f"dilated.{module}"), name)
    raise AttributeError(f"module 'dilated' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
