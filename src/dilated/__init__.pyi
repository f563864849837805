from dilated import fields, paper
from dilated._version import __version__ as __version__
from dilated.api import Run, TrainOptions, compare, evaluate, plan, train
from dilated.auditing import AuditOptions, audit
from dilated.cross_validation import train_folds
from dilated.data.check.check import check
from dilated.data.convert import ConvertOptions, convert
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.labels import Classes
from dilated.data.splitting import SplitOptions, split
from dilated.deploy.export import ExportOptions, export
from dilated.deploy.serve import serve
from dilated.deploy.serving.options import ServeOptions
from dilated.dilation.dilate import dilate
from dilated.errors import InputError, Interrupted
from dilated.evaluation.confusion import ConfusionMatrix
from dilated.evaluation.score import ScoreOptions, score
from dilated.evaluation.tune import TuneOptions
from dilated.fields.arithmetic import receptive_field
from dilated.fields.effective import effective_field
from dilated.kernels.accelerate import accelerate
from dilated.models.adapter import AdapterConfig, add_context
from dilated.models.context import ContextModule
from dilated.models.crf_rnn import CRFRNN
from dilated.models.dense_crf import DenseCRF
from dilated.models.multi_scale import MultiScale
from dilated.models.segmenter import Segmenter, SegmenterConfig
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor
from dilated.report import write_report
from dilated.studies.request import StudyOptions
from dilated.studies.study import study
from dilated.training import losses
from dilated.training.callbacks import Callback
from dilated.training.config import Recipe, load_recipe
from dilated.tuning import tune
from dilated.weights.bundled import load, save
from dilated.weights.hub import from_pretrained, push_to_hub, save_pretrained
from dilated.weights.published import published

__all__ = [
    "CRFRNN",
    "AdapterConfig",
    "AuditOptions",
    "Callback",
    "Classes",
    "ConfusionMatrix",
    "ContextModule",
    "ConvertOptions",
    "Dataset",
    "DenseCRF",
    "ExportOptions",
    "InputError",
    "Interrupted",
    "MultiScale",
    "Prediction",
    "Predictor",
    "Recipe",
    "Run",
    "ScoreOptions",
    "Segmenter",
    "SegmenterConfig",
    "ServeOptions",
    "SplitOptions",
    "StudyOptions",
    "TrainOptions",
    "TuneOptions",
    "accelerate",
    "add_context",
    "audit",
    "check",
    "compare",
    "convert",
    "dilate",
    "effective_field",
    "evaluate",
    "export",
    "fields",
    "from_pretrained",
    "load",
    "load_recipe",
    "losses",
    "open_dataset",
    "paper",
    "plan",
    "published",
    "push_to_hub",
    "receptive_field",
    "save",
    "save_pretrained",
    "score",
    "serve",
    "split",
    "study",
    "train",
    "train_folds",
    "tune",
    "write_report",
]
