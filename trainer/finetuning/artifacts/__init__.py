"""The files that a run writes and other parts read: names, models, bounded reading, atomic writing.

Whoever reads them must not trust them: the training container runs code of the user's choice.
"""

ADAPTER_CONFIG = "adapter_config.json"
MODEL_CONFIG = "config.json"
MODEL_DIR_FILES = (ADAPTER_CONFIG, MODEL_CONFIG)
GENERATION_CONFIG = "generation_config.json"
CHAT_TEMPLATE = "chat_template.jinja"
CHAT_TEMPLATES_DIR = "additional_chat_templates"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    CHAT_TEMPLATE,
    "chat_template.json",
)
"""Those that a result has from its base model, byte for byte: training changes no token."""
VOCABULARIES = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json",
    ".model", ".spm", ".tiktoken",
)  # fmt: skip
"""Names, or their ends, one of which every tokenizer has."""

CHECKPOINTS_DIR = "checkpoints"
CHECKPOINT_PREFIX = "checkpoint-"
STATE_DIR = "state"
STATE_FILE = "rank-0.json"
GPUS_FILE = "gpus.json"
"""Beside it: the GPUs' figures alone, newer than those in it while the trainer is silent."""
VALIDATION_DIR = "validation"
PUBLISH_DIR = "publish"
MERGED_DIR = "merged"
PUBLICATION = "publication.json"
MODEL_CARD = "README.md"
SIGNATURE = "model.sig"
TRACKING_DIR = "tracking"
LOSS_HISTORY = "loss_history.jsonl"
PERFORMANCE_HISTORY = "performance_history.jsonl"
SAMPLES = "samples.jsonl"
TRAINING_INFO = "training_info.json"
RUN_INFO = "run.json"
"""What is known of a run when it begins; training_info.json takes its place at the end."""
DATA_REPORT = "data_report.json"
AIM_PROFILE = "aim_profile.json"
MANIFEST = "manifest.json"
VALIDATION_REPORT_TEXT = "validation_report.txt"
VALIDATION_REPORT_JSON = "validation_report.json"

GPUS_ENV = "FINETUNING_GPUS"
"""How many GPUs a pod was promised; in a pod alone."""
PUBLISHER_ENV = "FINETUNING_PUBLISHER"
"""The uid of a publishing pod's Job: nobody knew it while the model was trained."""
TERMINATION_LOG_ENV = "FINETUNING_TERMINATION_LOG"
TERMINATION_MESSAGE_LIMIT = 3072
"""kubelet keeps 12 KiB a pod, divided over its containers; up to four containers keep this much."""
