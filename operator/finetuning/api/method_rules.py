"""What must hold between the sections of a FineTuningJob's spec, and of a run's configuration."""

from finetuning.api.base import Rule
from finetuning.api.dataset import EVALUATES, ROWS_TO_EVALUATE_ON, evaluates
from finetuning.api.hyperparameters import LoraConfig, Method


def _of_the_adapter(name: str, is_set: str) -> Rule:
    """An option that method full would ignore, and whoever wrote it would not know."""
    alias = LoraConfig.model_fields[name].alias
    return Rule(
        f"self.method != 'full' || !has(self.loraConfig) || !({is_set})",
        lambda config: (
            config.method is not Method.FULL
            or not config.lora_config
            or not getattr(config.lora_config, name)
        ),
        f"{alias} is an option of the adapter, and method full has none: drop it, or set method "
        "to lora or qlora",
        field=f"loraConfig.{alias}",
    )


METHOD_RULES = (
    _of_the_adapter("use_rslora", "self.loraConfig.useRslora"),
    _of_the_adapter("use_dora", "self.loraConfig.useDora"),
    _of_the_adapter("loraplus_lr_ratio", "has(self.loraConfig.loraplusLrRatio)"),
    _of_the_adapter("modules_to_save", "size(self.loraConfig.modulesToSave) > 0"),
    Rule(
        "self.method != 'qlora' || !self.hyperparameters.fsdp",
        lambda config: config.method is not Method.QLORA or not config.hyperparameters.fsdp,
        "fsdp does not go with method qlora, whose 4-bit weights cannot be shared out: set method "
        "to lora or full, or drop fsdp",
        field="hyperparameters.fsdp",
    ),
    Rule(
        f"!has(self.hyperparameters.earlyStoppingPatience) || {EVALUATES}",
        lambda config: (
            config.hyperparameters.early_stopping_patience is None or evaluates(config.dataset)
        ),
        f"earlyStoppingPatience {ROWS_TO_EVALUATE_ON}; or drop earlyStoppingPatience",
        field="hyperparameters.earlyStoppingPatience",
    ),
    Rule(
        "!has(self.hyperparameters.loadBestModelAtEnd) || "
        f"!self.hyperparameters.loadBestModelAtEnd || {EVALUATES}",
        lambda config: (
            not config.hyperparameters.load_best_model_at_end or evaluates(config.dataset)
        ),
        f"loadBestModelAtEnd {ROWS_TO_EVALUATE_ON}; or drop loadBestModelAtEnd",
        field="hyperparameters.loadBestModelAtEnd",
    ),
    Rule(
        f"self.hyperparameters.sampleGenerations == 0 || {EVALUATES}",
        lambda config: not config.hyperparameters.sample_generations or evaluates(config.dataset),
        f"sampleGenerations {ROWS_TO_EVALUATE_ON}; or drop sampleGenerations",
        field="hyperparameters.sampleGenerations",
    ),
)
