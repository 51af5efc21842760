"""Adapters of a pipeline, loaded and taken off between calls, under the names that diffusers' pipelines have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from hunyuan_video.errors import ArgumentError, notify
from hunyuan_video.rules import check_number

if TYPE_CHECKING:
    from hunyuan_video.models import TransformerConfig

Names = str | Sequence[str]
ONE_OR_ALL = "give one number, or one for each adapter"


class AdapterMethods:
    """LoRA and its relatives on the transformer, by name.

    They change the transformer of every pipeline over the same models: call them between runs, not during one. Settings
    that a distilled adapter's file names (steps, solver, guidance) are told and not taken, as others may be active
    beside it: give them to the call. `from_pretrained(adapter=...)` takes them.
    """

    transformer: Any
    _disabled: Mapping[str, float] = MappingProxyType({})  # adapters that `disable_lora` switched off, their weights
    _plain_config: TransformerConfig | None = None  # of the transformer, where an adapter changed it

    def load_lora_weights(
        self,
        path: str | Path,
        adapter_name: str | None = None,
        *,
        weight_name: str | None = None,
        weight: float = 1.0,
    ) -> None:
        """Puts the adapter of a file beside the weights, active at `weight` (any finite number; 1 is its strength).

        path: a file of diffusers, PEFT, ComfyUI or kohya, in whatever form and names (docs/formats.md), or a folder
        with one, of several the one called weight_name. adapter_name: default "default_0", or the next number that is
        free. Adapters that are there stay active. Beside the weights an adapter costs time in each step;
        `fuse_lora` saves it. ArgumentError for a name that is taken; UserError, one line, for a file that is missing,
        damaged or made for another model: the transformer is then as it was.
        """
        from hunyuan_video.checkpoints.adapters import given_file
        from hunyuan_video.checkpoints.lora import check_adapter_base, load_adapter
        from hunyuan_video.checkpoints.lora_file import AdapterFile
        from hunyuan_video.checkpoints.lora_origin import settings_text
        from hunyuan_video.models.lora import adapter_names

        model, taken = self.transformer, adapter_names(self.transformer)
        if adapter_name is None:
            adapter_name = next(name for i in range(len(taken) + 1) if (name := f"default_{i}") not in taken)
        _check_name(adapter_name, taken)
        weight = check_number("weight", weight)
        config, file = model.config, given_file(path, weight_name)
        if settings := AdapterFile(file).settings:
            text = f"{file} was made for {settings_text(settings)}; give them to the call"
            notify(text)
        if not taken:
            check_adapter_base(model, file)
        load_adapter(model, file, adapter_name, weight)
        if model.config != config and self._plain_config is None:
            self._plain_config = config

    def set_adapters(self, adapter_names: Names, adapter_weights: float | Sequence[float] | None = None) -> None:
        """Activates these adapters with these weights (default 1 each) and switches all others off, fused ones too.

        One number serves all. ArgumentError for a name that is not loaded, and for another number of weights.
        """
        from hunyuan_video.models.lora import set_adapters

        names = self._known(adapter_names)
        given = 1.0 if adapter_weights is None else adapter_weights
        weights = list(given) if isinstance(given, list | tuple) else [given] * len(names)
        if len(weights) != len(names):
            raise ArgumentError(f"adapter_weights has {len(weights)} entries for {len(names)} adapters; {ONE_OR_ALL}")
        numbers = [check_number("adapter_weights", value, hint=ONE_OR_ALL) for value in weights]
        set_adapters(self.transformer, dict(zip(names, numbers, strict=True)))

    def delete_adapters(self, adapter_names: Names) -> None:
        """Takes these adapters off, fused ones out of the weights, too; the others stay as they are, not fused.

        ArgumentError for a name that is not loaded.
        """
        from hunyuan_video.models.lora import delete_adapters, unmerge_adapters

        names = self._known(adapter_names)
        unmerge_adapters(self.transformer)
        delete_adapters(self.transformer, names)

    def disable_lora(self) -> None:
        """Switches all adapters off, fused ones too, until `enable_lora`."""
        from hunyuan_video.models.lora import set_adapters

        active = self.get_active_adapters()
        if active:
            self._disabled = active
            set_adapters(self.transformer, {})

    def enable_lora(self) -> None:
        """Switches on again what `disable_lora` switched off, and is still loaded."""
        from hunyuan_video.models.lora import adapter_names, set_adapters

        loaded = adapter_names(self.transformer)
        back = {name: weight for name, weight in self._disabled.items() if name in loaded}
        set_adapters(self.transformer, {**back, **self.get_active_adapters()})
        self._disabled = MappingProxyType({})

    def get_list_adapters(self) -> dict[str, list[str]]:
        """Names of the adapters that are loaded, active or not, by the part that they are on: "transformer"."""
        from hunyuan_video.models.lora import adapter_names

        names = adapter_names(self.transformer)
        return {"transformer": names} if names else {}

    def get_active_adapters(self) -> dict[str, float]:
        """The active adapters and their weights."""
        from hunyuan_video.models.lora import active_adapters

        return active_adapters(self.transformer)

    def fuse_lora(self, *, lora_scale: float = 1.0, adapter_names: Names | None = None) -> None:
        """Adds the active adapters, times lora_scale, to the weights: sampling then costs what it costs without.

        adapter_names: only these, the others are switched off. The weights without them are kept until
        `unload_lora_weights`, so this doubles the memory of the layers concerned, and `unfuse_lora` undoes it exactly.
        Weights stored in FP8 stay as they are, and their adapters beside them: merged they would be rounded to three
        bits. ArgumentError where no adapter is active or a name is not loaded.
        """
        from hunyuan_video.models.lora import merge_adapters, set_adapters

        scale = check_number("lora_scale", lora_scale)
        active = self.get_active_adapters()
        if adapter_names is not None:
            active = {name: active.get(name, 1.0) for name in self._known(adapter_names)}
        if not active:
            raise ArgumentError("no adapter is active; load one with load_lora_weights, or name some in adapter_names")
        if scale != 1.0 or adapter_names is not None:
            set_adapters(self.transformer, {name: scale * weight for name, weight in active.items()})
        merge_adapters(self.transformer)

    def unfuse_lora(self) -> None:
        """The weights as before `fuse_lora`, bit for bit; the adapters are beside them again, still active."""
        from hunyuan_video.models.lora import unmerge_adapters

        unmerge_adapters(self.transformer)

    def unload_lora_weights(self) -> None:
        """Takes all adapters off. Fused ones stay in the weights, for good; else those are as before, bit for bit."""
        from hunyuan_video.models.lora import lora_layers, remove_adapters

        fused = any(layer.merged for _, layer in lora_layers(self.transformer))
        remove_adapters(self.transformer, keep_merged=fused)
        if self._plain_config is not None and not fused:
            self.transformer.config = self._plain_config
        self._plain_config = None

    def _known(self, given: Names) -> list[str]:
        from hunyuan_video.models.lora import adapter_names

        names, known = [given] if isinstance(given, str) else list(given), adapter_names(self.transformer)
        for name in names:
            if name not in known:
                raise ArgumentError(f"no adapter {name!r} is loaded; there are: {', '.join(known) or 'none'}")
        if len(set(names)) != len(names):
            raise ArgumentError(f"adapter_names has a name twice: {', '.join(names)}")
        return names


def _check_name(name: str, taken: list[str]) -> None:
    """ArgumentError for what cannot be an adapter's name."""
    if not isinstance(name, str) or not name or "." in name:
        raise ArgumentError(f"adapter_name must be a word without dots, got {name!r}")
    if name in taken:
        raise ArgumentError(f"adapter_name {name!r} is taken; unload_lora_weights first, or choose another name")
