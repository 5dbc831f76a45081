"""Options that several commands share, each written once, without anything heavy.

Options of the run, such as ``--quiet`` or ``--device``, fill the `Context`. Options that belong
together reach a command as one object: `TargetOptions`, `SourceOptions`, `EncoderOptions`. Start
reading at `question`; a new option of a question goes there.
"""

from layerdex.cli.options.display import DISPLAY, DisplayOptions, display_options
from layerdex.cli.options.encoder import encoder_options
from layerdex.cli.options.grouping import Decorator, collect, combine
from layerdex.cli.options.question import (
    BOTH,
    FUSED_VECTORS,
    STORED_TRANSFORM,
    VOTE_WEIGHTS,
    TargetOptions,
    k_option,
    min_per_label_option,
    path_argument,
    plot_path,
    query_template_option,
    target_options,
    weights_option,
    where_option,
)
from layerdex.cli.options.removal import max_removed_option
from layerdex.cli.options.run import (
    calibration_file_option,
    json_option,
    jsonl_option,
    lock_timeout_option,
    model_folder_option,
    runtime_options,
    search_device_option,
    stored_encoder_options,
    verbosity_options,
)
from layerdex.cli.options.source import (
    FORMAT_OPTIONS,
    FormatOptions,
    IdsOptions,
    InputOptions,
    SourceOptions,
    format_options,
    ids_options,
    input_options,
    source_options,
)
from layerdex.cli.options.types import (
    DateFormatType,
    EnumChoice,
    NumbersType,
    PathType,
    SimilarityType,
    by_field,
)

__all__ = [
    "BOTH",
    "DISPLAY",
    "FORMAT_OPTIONS",
    "FUSED_VECTORS",
    "STORED_TRANSFORM",
    "VOTE_WEIGHTS",
    "DateFormatType",
    "Decorator",
    "DisplayOptions",
    "EnumChoice",
    "FormatOptions",
    "IdsOptions",
    "InputOptions",
    "NumbersType",
    "PathType",
    "SimilarityType",
    "SourceOptions",
    "TargetOptions",
    "by_field",
    "calibration_file_option",
    "collect",
    "combine",
    "display_options",
    "encoder_options",
    "format_options",
    "ids_options",
    "input_options",
    "json_option",
    "jsonl_option",
    "k_option",
    "lock_timeout_option",
    "max_removed_option",
    "min_per_label_option",
    "model_folder_option",
    "path_argument",
    "plot_path",
    "query_template_option",
    "runtime_options",
    "search_device_option",
    "source_options",
    "stored_encoder_options",
    "target_options",
    "verbosity_options",
    "weights_option",
    "where_option",
]
