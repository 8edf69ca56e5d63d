"""Every reason that a check can give: what must hold, and what to do where it does not.

In the order in which the rules of a check run. The reference page is generated from this table.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

CheckName = Literal["training_loss", "model_output", "checkpoint_integrity", "aim_profile"]
CHECKS: tuple[CheckName, ...] = (
    "training_loss",
    "model_output",
    "checkpoint_integrity",
    "aim_profile",
)
"""In the order of the report."""


class Weight(StrEnum):
    """What a broken rule means for its check."""

    FAIL = "Fail"
    ERROR = "Error"
    WARNING = "warning"


@dataclass(frozen=True)
class Reason:
    """One word for machines, what must hold, and what a person can do."""

    name: str
    holds: str
    remedy: str
    weight: Weight = Weight.FAIL
    passes: bool = False
    """Whether it may be gone at another try, as is, since it is of the machine or the network."""


_RETRAIN = "train again"
_CALM = "train again with a lower learningRate or a longer warm-up"
_WHOLE = "copy the folder again from where it was written, or train again"
_ERROR, _WARNING = Weight.ERROR, Weight.WARNING

_TRAINING_LOSS = (
    Reason("TrainingInfoUnreadable", "training_info.json is there and readable",
           "give the file that the trainer wrote, or wait until the run has ended"),
    Reason("HistoryUnreadable", "every line of the history but a torn last one can be read",
           _WHOLE),
    Reason("HistoryMissing", "where everything is required, there is a history of losses",
           "give the folder that the trainer wrote: a mean shows no trend"),
    Reason("LossMissing", "there is a loss", "give the folder of a finished run"),
    Reason("LossNotFinite", "no training or evaluation loss was NaN or infinite", _CALM),
    Reason("LossOutOfRange",
           "no loss is negative; the last is above 0 and below `maxLoss`, that of the evaluation "
           "below `maxLoss` and 10, whichever is more",
           "check that the rows have answers to learn from, or raise maxLoss"),
    Reason("HistoryGap", "the history lacks at most a tenth of the steps up to its last", _WHOLE),
    Reason("RunUnfinished", "all planned steps are done",
           "start the same run again: it goes on where it stopped"),
    Reason("PlanMissing", "where everything is required, it is told how many steps were planned",
           "give the training_info.json that the trainer wrote"),
    Reason("InfoMismatch",
           "steps and losses of training_info.json are those of the history, its settings those of "
           "the newest checkpoint",
           "give files of one and the same run"),
    Reason("NothingTrained", "some step has a learning rate above 0, and some a token",
           "give a learningRate, and fewer warm-up steps than steps"),
    Reason("LossNotDecreasing",
           "the loss does not certainly rise (one chance in 1000), nor stay as it is",
           "check data and learningRate: nothing was learned"),
    Reason("LossDiverged",
           "the end is not far above the lowest stretch of the run; where the loss rose far above "
           "its first steps, it ends clearly below them", _CALM),
    Reason("LossSpiked", "the run does not end in a spike of two steps or more", _CALM),
    Reason("LossCollapsed", "the loss never falls to a hundredth of all before for good",
           "look for empty answers or labels that are the input itself in the rows"),
    Reason("LossDecreaseTooSmall", "the loss fell by the share `minLossDecrease` at least",
           "train longer, or lower minLossDecrease"),
    Reason("Overfit", "the last evaluation loss is at most `maxOverfit` above the lowest",
           "train fewer epochs, or take the checkpoint with the lowest evaluation loss"),
    Reason("HistoryAbsent", "there is a history of losses",
           "keep loss_history.jsonl beside the model: without it no trend is told", _WARNING),
    Reason("TrendUncertain", "there are 20 steps to tell a trend by",
           "ask the model prompts with expected words instead", _WARNING),
    Reason("TrendWeak", "the loss falls clearly beyond the noise of the steps",
           "compare with the base model on held-out rows", _WARNING),
    Reason("LossBlewUp", "no five steps stand far above the first ones, though the run came back",
           _CALM, _WARNING),
    Reason("LossSpikes", "no step stands far above its neighbours",
           "look at the rows of these steps; lower maxGradNorm", _WARNING),
    Reason("LossNearZero", "the loss is not below 0.01 before half of the steps are done",
           "check whether the prompt gives the answer away", _WARNING),
    Reason("EvalLossRises", "the evaluation loss ends within a tenth of its lowest value",
           "train fewer epochs", _WARNING),
    Reason("GradientNotFinite", "no norm of a gradient was NaN or infinite", _CALM, _WARNING),
    Reason("LossNotFiniteBefore", "no step that was done again had a loss of NaN",
           "look at why the run was started again", _WARNING),
    Reason("HistoryOdd", "epochs never go back, and no learning rate is negative",
           "give the history that the trainer wrote", _WARNING),
    Reason("HistoryStitched", "no step was done twice and none is missing",
           "nothing: a run that was resumed looks like this", _WARNING),
)  # fmt: skip

_MODEL_OUTPUT = (
    Reason("LibraryMissing", "torch, transformers, peft and safetensors are installed",
           "pip install 'finetuning-operator[trainer]', or use the trainer's image", _ERROR),
    Reason("ModelMissing", "the folder holds a model or an adapter with safetensors weights",
           "give the trainer's output folder"),
    Reason("NotAFile", "no link, pipe or device is among the model's files",
           "put the file itself in its place"),
    Reason("AdapterUntrained", "both matrices of some layer of the adapter are not zero",
           f"check learningRate and rows, then {_RETRAIN}"),
    Reason("BaseModelMissing", "an adapter's base model is found",
           "name its folder with --base-model", _ERROR, passes=True),
    Reason("HeldOutUnreadable", "the file of held-out rows is there and its rows can be used",
           "give a .jsonl, .json, .csv, .tsv or .parquet file with rows like those of the "
           "training", _ERROR),
    Reason("TaskUnreadable", "the files of `benchmarks.includePath` are tasks that want no code",
           "write the task with plain fields, and its rows as a file", _ERROR),
    Reason("TimedOut", "the model answers within `timeoutSeconds`",
           "raise the timeout, or give the validation a GPU", _ERROR),
    Reason("OutOfMemory", "the machine is large enough",
           "give the validation more memory: in a cluster spec.validation.resources.limits", _ERROR,
           passes=True),
    Reason("MachineFailed", "no device or disk fails under the model, and no signal ends it",
           "look at the validator's log and at the node; judge the model again", _ERROR,
           passes=True),
    Reason("ModelCrashed", "the process with the model ends in order",
           "look at the validator's log; try the model by hand"),
    Reason("ModelLoadFailed", "model, adapter and tokenizer load, and no tensor is missing",
           _WHOLE),
    Reason("TokenizerDiffers",
           "the tokenizer makes the same tokens and texts as the base model's",
           "copy the base model's tokenizer files"),
    Reason("TemplateBroken", "the chat template writes the prompt, in 10 s and without bloating it",
           "copy the base model's chat template"),
    Reason("ConfigMismatch",
           "the settings by which a whole model computes are those of its base, as the library "
           "reads both", "give the configuration that the trainer wrote"),
    Reason("GenerationMismatch",
           "a whole model makes its answers by its base's generation settings: sampling, "
           "penalties, ends, lengths", "copy generation_config.json from the base model"),
    Reason("LogitsNotFinite", "no logit is NaN or infinite", _CALM),
    Reason("AnswerEmpty", "something that can be seen is said",
           "check the chat template and the rows' answers"),
    Reason("HeldOutNotCompared",
           "with `maxPerplexityIncrease` rows and base model are there to hold it against",
           "name the base model's folder with --base-model, or give shorter rows", _ERROR),
    Reason("HeldOutWorse",
           "the held-out perplexity is at most `maxPerplexityIncrease` above the base model's; "
           "without that limit it is not 1.5 times as high or more, and not over a tenth of the "
           "rows cost over 1 nat a token more, each beyond 3 standard errors",
           "train fewer epochs or with a lower learningRate; where the rows are of another kind "
           "than those trained on, set maxPerplexityIncrease"),
    Reason("BenchmarksNotCompared", "with `benchmarks.maxDrop` both models do all tasks",
           "build the trainer's image with lm-evaluation-harness, and give tasks whose data are "
           "at hand", _ERROR),
    Reason("BenchmarkWorse",
           "no task is clearly worse than the base model's by more than `benchmarks.maxDrop`",
           "train fewer epochs or with a lower learningRate"),
    Reason("AnswerRepeats", "it is not one token over and over, unless the base model does so too",
           _CALM),
    Reason("AnswerLoops",
           "it does not end in a phrase over and over, unless the base model does so too", _CALM),
    Reason("PromptEchoed", "the answer is not the prompt itself, once or over and over, unless the "
           "base model echoes too, or the expected words are given and in it",
           "check that prompts are not trained on as answers"),
    Reason("KeywordsMissing", "each answer holds one (`match: any`) or all of its expected words",
           "train longer or on more rows of this kind, or mend the expected words; raise "
           "maxNewTokens where the answer was cut before them"),
    Reason("NotAsTrained",
           "on fixed texts the model has the losses that the trainer saw, token by token: within "
           "0.02 nats in 32 bit, 0.25 in 16, or 2.5 where 4 bits are involved; of a run of method "
           "qlora within twice what the 4 bits did to its base, or 0.25; an adapter also within "
           "0.15 of what it changes of its base model, or what rounding does to that",
           "give the weights, settings and base model of one and the same run"),
    Reason("ReferenceMissing",
           "where everything is required, what the trainer has seen is there as it was written",
           "give the training_info.json that the trainer wrote"),
    Reason("ReferenceUnknown", "trainer and validator have the same texts",
           "validate with the image of the trainer's version", _ERROR),
    Reason("AnswerDoesNotStop",
           "an answer that the base model ends within `maxNewTokens` ends within 1024 tokens, or "
           "within `maxNewTokens` where that is more",
           "check that the rows' answers end with the end of sequence"),
    Reason("SameAsBase",
           "weights, beyond rounding, and logits differ from the base model's; where the "
           "loss did not clearly fall, by more than 0.01 in 32 bit or 1/16 else",
           f"check learningRate and trainable layers, then {_RETRAIN}"),
    Reason("AnswerNotOfUse", "a model that does what it was taught answers a general question too",
           "give prompts of the kind that was trained on", _WARNING),
    Reason("HeldOutRegressed", "the held-out loss is not clearly above the base model's",
           "train fewer epochs or with a lower learningRate", _WARNING),
    Reason("HeldOutRowsLeftOut", "each held-out row could be trained on as well",
           "mend or remove the rows", _WARNING),
    Reason("BenchmarkRegressed", "no task is clearly worse than the base model's",
           "train fewer epochs or with a lower learningRate", _WARNING),
    Reason("BenchmarksSkipped", "all tasks that are wanted were run on both models",
           "build the trainer's image with lm-evaluation-harness, and give tasks whose data are "
           "at hand", _WARNING),
    Reason("AsBadAsBase", "the base model neither loops, repeats nor echoes where the tuned does",
           "ask other prompts, or tune a base model that can answer", _WARNING),
    Reason("AnswerCutOff", "an answer ends before the limit of new tokens",
           "nothing, where long answers are wanted; raise maxNewTokens to see the rest", _WARNING),
    Reason("NothingExpected",
           "expected words, held-out rows, tasks or the trainer's figures tell sense from nonsense",
           "give prompts with expectedKeywords, or heldOut", _WARNING),
    Reason("NotCompared", "there is a base model to compare with",
           "name its folder with --base-model", _WARNING),
)  # fmt: skip

_CHECKPOINT_INTEGRITY = (
    Reason("LibraryMissing", "numpy and safetensors are installed",
           "pip install 'finetuning-operator[trainer]', or use the trainer's image", _ERROR),
    Reason("ModelFolderMissing", "the model's folder is there", "give the trainer's output folder"),
    Reason("CheckpointsMissing", "the folder of checkpoints that was named is there",
           "give the folder that holds checkpoint-<step>, or leave it out"),
    Reason("NotAFile", "no link, pipe or device is among the files, however deep they lie",
           "put the file itself in its place"),
    Reason("WriteInterrupted", "no temporary file was left behind",
           "start the same run again: it cleans up"),
    Reason("FileEmpty", "no data file is empty", _WHOLE),
    Reason("LfsPointer", "no file is a Git LFS or Xet pointer", "fetch the file with git lfs pull"),
    Reason("ManifestMissing", "`manifest.json`, which is written last, is there",
           "start the same run again: it goes on where it stopped"),
    Reason("WeightsMissing", "there are safetensors weights",
           "save the model with save_pretrained: pickled weights are never opened"),
    Reason("ConfigMissing", "there is a config.json or adapter_config.json", _WHOLE),
    Reason("TokenizerMissing", "there is a tokenizer", "copy the base model's tokenizer files"),
    Reason("JsonUnreadable", "every JSON file can be read, as UTF-8", _WHOLE),
    Reason("AdapterSettingForeign",
           "adapter_config.json has no setting that changes the base model or names other files",
           "save the adapter without it; merge it into its base where it needs it"),
    Reason("TrainerStateMissing", "a checkpoint has its trainer_state.json",
           "resume from an older checkpoint"),
    Reason("StepMismatch", "a checkpoint is of the step in its name, and within the plan",
           "resume from an older checkpoint"),
    Reason("TrainerStateMalformed",
           "trainer_state.json has step, plan, epoch, counts and run, of their types",
           "resume from another checkpoint"),
    Reason("OptimizerStateMissing",
           "a checkpoint has the optimizer's state (and, of other trainers, scheduler and RNG)",
           "resume from an older checkpoint"),
    Reason("WeightsMalformed",
           "every safetensors header is valid and the data end where it says", _WHOLE),
    Reason("IndexMissing", "parts of a model have an index", _WHOLE),
    Reason("IndexMismatch", "index and parts name the same tensors and bytes, both ways", _WHOLE),
    Reason("ManifestMismatch", "size and sha256 of every listed file are as written", _WHOLE),
    Reason("FileNotListed", "all that libraries and checks read of the folder is in the manifest",
           "remove what the trainer did not write"),
    Reason("WeightsAmbiguous",
           "each tensor is in one file, and beside an adapter are no other weights",
           "remove what the trainer did not write"),
    Reason("RankMismatch", "the adapter's matrices come in pairs of the configured rank",
           "give weights and adapter_config.json of one run"),
    Reason("ShapeMismatch", "the model's tensors have the shapes of its config.json",
           "give weights and config.json of one run"),
    Reason("OptimizerMismatch",
           "the optimizer has the steps and both moments of each weight, of its shape, as its "
           "gradients can have left them",
           "resume from an older checkpoint"),
    Reason("WeightsNotFinite", "no weight is NaN or infinite", _CALM),
    Reason("WeightsImplausible", "no weight is 2^24 or more: bits were flipped in it", _WHOLE),
    Reason("WeightsZero",
           "in dense architectures whose tensors are known, no matrix is all zeros; of an adapter "
           "no first one, and no second one whose optimizer has had gradients for it", _WHOLE),
    Reason("MethodMismatch", "adapter or whole model: the files are what the method makes",
           "give files of one and the same run"),
    Reason("BaseMismatch",
           "the adapter names, and fits, the base model that was tuned, whose weights are the same",
           "give the adapter's own base model"),
    Reason("ConfigMismatch",
           "what decides how the model computes is as in the run, its checkpoint and its base",
           "give the configuration that the trainer wrote"),
    Reason("TokenizerMismatch",
           "tokens, merges, first and last token are the base model's and fit its vocabulary",
           "copy the base model's tokenizer files"),
    Reason("ChatTemplateMissing",
           "a chat template that the base model has, or that the trainer added, is there",
           "copy the base model's chat template; one that was added is in the run's own output"),
    Reason("ChatTemplateMismatch",
           "the chat template is the one that the trainer added, where the base model has none",
           "copy chat_template.jinja from the run's own output"),
    Reason("BaseFileChanged",
           "tokenizer files, and generation_config.json of a whole model, are the base model's, "
           "byte for byte; of a base model without the latter it is the trainer's",
           "copy the file from the base model that was tuned, or from the run's own output"),
    Reason("ResultMismatch",
           "the result is the checkpoint of the step that was kept, as it is or rounded to 16 bit",
           _WHOLE),
    Reason("CheckpointMismatch",
           "checkpoints are of this run: its settings, its steps, its history",
           "remove the checkpoint: it belongs to another run"),
    Reason("PickleFound", "there is no pickle beside the weights",
           "remove it: loading it would run its code", _WARNING),
    Reason("CodeFound", "there is no Python code, nor a configuration that names code",
           "remove it: it is never run here, and should not be elsewhere", _WARNING),
    Reason("TokenizerChanged", "how tokenizer.json cuts and joins texts is the base model's",
           "nothing, where a newer library has written it; else copy the base model's", _WARNING),
    Reason("TemplateChanged", "the chat template is the base model's",
           "nothing, where that was the intention", _WARNING),
    Reason("CheckpointLeftover", "no half-written checkpoint was left behind",
           "remove it: the trainer never uses it", _WARNING),
    Reason("CheckpointBehind", "the newest checkpoint is of the run's last step",
           "nothing, where it was deleted on purpose", _WARNING),
    Reason("AdapterPartlyZero", "no matrix of the adapter is zero",
           "nothing, where these layers never see data", _WARNING),
    Reason("BaseNotAtHand", "the base model's folder is there to compare with",
           "name its folder with --base-model", _WARNING),
)  # fmt: skip

_AIM_PROFILE = (
    Reason("ProfileMissing", "a profile was given", "give aim_profile.json of the run"),
    Reason("ProfileUnreadable", "it is a JSON object", _WHOLE),
    Reason("FieldMissing",
           "`model_id`, `base_model_id`, `fine_tuning_method` and `memory_gb` are there",
           "add the field"),
    Reason("WrongType",
           "every known field has its type; true and false are no numbers, nor is NaN anywhere",
           "write numbers as numbers and names as texts"),
    Reason("MemoryInvalid",
           "memory is a finite number above 0, holds the weights, and fits the partition",
           "give what the model needs in gigabytes"),
    Reason("PrecisionUnknown",
           "`precision` is auto, fp4, fp8, fp16, fp32, bf16, int4 or int8",
           "give one of these"),
    Reason("ServingUnsafe",
           "engine_args and env_vars load no code, hold no credential, and are of possible sizes",
           "leave the argument or variable out; whoever serves the model sets it"),
    Reason("MemoryImplausible", "memory is not far beyond weights and context, its parts add up "
           "to it, and the partition is not far beyond it", "give what the model needs in "
           "gigabytes"),
    Reason("ContextImplausible",
           "context and max-model-len are not far beyond the model's positions",
           "give the tokens that memory was reckoned with"),
    Reason("GpusMismatch",
           "the GPUs that engine_args divide the model over go into metadata.gpu_count",
           "make the product of the parallel sizes gpu_count"),
    Reason("RunMismatch",
           "names, method, adapter, quantisation, results and the served model are the run's",
           "give the profile of this run"),
    Reason("PrecisionMismatch", "the model's weights are stored in the profile's precision",
           "give the profile of this run"),
    Reason("MemoryUnchecked", "the weights' size is known", "name the base model's folder with "
           "--base-model", _WARNING),
)  # fmt: skip

CRASHED = Reason("CheckCrashed", "a check does not fail itself; the others still run",
                 "report it with the validator's log", _ERROR, passes=True)  # fmt: skip

REASONS: dict[CheckName, tuple[Reason, ...]] = {
    "training_loss": _TRAINING_LOSS,
    "model_output": _MODEL_OUTPUT,
    "checkpoint_integrity": _CHECKPOINT_INTEGRITY,
    "aim_profile": _AIM_PROFILE,
}
_ALL = tuple(reason for group in (*REASONS.values(), (CRASHED,)) for reason in group)
_REMEDIES = {reason.name: reason.remedy for reason in _ALL}
_PASSING = frozenset(reason.name for reason in _ALL if reason.passes)


def remedy_for(name: str) -> str:
    """What can be done about it; empty for a reason that is not in the table."""
    return _REMEDIES.get(name, "")


def may_pass(name: str) -> bool:
    """Whether another try may not find it any more."""
    return name in _PASSING


def reference() -> list[str]:
    """A page of Markdown lines: one table per check."""
    lines: list[str] = []
    for check, reasons in REASONS.items():
        lines += [f"## {check}", "", "| reason | what must hold | remedy |", "|---|---|---|"]
        lines += [_row(reason) for reason in reasons]
        lines.append("")
    lines += ["Of every check:", "", "| reason | what must hold | remedy |", "|---|---|---|"]
    return [*lines, _row(CRASHED)]


def _row(reason: Reason) -> str:
    told = f"{reason.weight}, tried again" if reason.passes else reason.weight
    note = "" if reason.weight is Weight.FAIL else f" ({told})"
    return f"| `{reason.name}`{note} | {reason.holds} | {reason.remedy} |"
