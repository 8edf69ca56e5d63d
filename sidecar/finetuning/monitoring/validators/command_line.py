"""The flags of validate_job, without the libraries that a verdict needs: `--help` is quick."""

import argparse
from pathlib import Path

_EPILOG = """\
examples:
  Judge a run, and keep the report as text and as JSON:
    python3 -m finetuning.monitoring.validate_job \\
      --training-info ./output/training_info.json --model-path ./output \\
      --checkpoint-path ./checkpoints --profile-path ./output/aim_profile.json \\
      --output validation_report.txt

  Ask an adapter whose base model lies elsewhere, and look for words in the answers:
    python3 -m finetuning.monitoring.validate_job \\
      --training-info ./output/training_info.json --model-path ./output \\
      --base-model ./models/base --prompt "What is the capital of Peru?" --expect Lima

exit codes: 0 every required check passed, 1 some did not, 2 nothing could be judged
"""


def command_line() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m finetuning.monitoring.validate_job",
        description="Judge the files that a fine-tuning run left: loss, model, checkpoints, "
        "profile.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--training-info", type=Path, required=True, metavar="FILE", help="training_info.json")
    add("--model-path", type=Path, required=True, metavar="FOLDER", help="the run's output folder")
    add(
        "--checkpoint-path",
        type=Path,
        metavar="FOLDER",
        help="where the checkpoints are; looked for below --model-path too (default: checkpoints "
        "there)",
    )
    add(
        "--profile-path",
        type=Path,
        metavar="FILE",
        help="aim_profile.json (default: the one in --model-path)",
    )
    add("--output", type=Path, metavar="FILE", help="text report; JSON and HTML go beside it")
    add("--base-model", metavar="FOLDER", help="the model that was tuned, when it is not found")
    # One list for both, because each word belongs to the prompt before it.
    add(
        "--prompt",
        dest="asked",
        action="append",
        type=lambda text: ("prompt", text),
        metavar="TEXT",
        help="ask the model this; may be repeated",
    )
    add(
        "--expect",
        dest="asked",
        action="append",
        type=lambda text: ("expect", text),
        metavar="WORD",
        help="the answer to the --prompt before must hold this word, or one of several",
    )
    add(
        "--max-new-tokens",
        type=int,
        metavar="N",
        help="longest answer; where the base model ends its own sooner it may be longer (256)",
    )
    add("--held-out", metavar="FILE", help="rows to compare with the base model by perplexity")
    _add_benchmarks(parser)
    add("--max-loss", type=float, metavar="LOSS", help="the training loss must be below (10)")
    add(
        "--require-all",
        action="store_true",
        help="count model_output as failed where no model can be loaded",
    )
    add("--json", action="store_true", help="print the JSON report instead of the text")
    return parser


def _add_benchmarks(parser: argparse.ArgumentParser) -> None:
    """Named as lm-evaluation-harness does."""
    add = parser.add_argument
    add("--tasks", metavar="NAME,…", help="tasks of lm-evaluation-harness for both models")
    add("--include-path", metavar="FOLDER", help="tasks of your own, *.yaml, with their rows")
    add("--limit", type=int, metavar="N", help="questions of each task (200)")
    add("--num-fewshot", type=int, metavar="N", help="solved examples before each question")
    add(
        "--max-drop",
        type=float,
        metavar="SHARE",
        help="by which a score may be clearly worse than the base model's",
    )
