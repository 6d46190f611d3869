"""FSDP: version 2 (``fully_shard``, DTensors) and version 1 (flat parameters)."""

from __future__ import annotations

from typing import Any

from hf_momo.tap.backends.base import Backend


class FSDP(Backend):
    """FSDP of either version. DTensors of version 2 tell by their placements how often a shard is held."""

    @property
    def shards_plain_tensors(self) -> bool:
        """Whether plain tensors are shards: under version 1, unless its strategy is ``NO_SHARD``."""
        return not self._is_version_2 and self._plugin.sharding_strategy.name != "NO_SHARD"

    def check_settings(self) -> None:
        """Refuse settings of version 1 that hold parameters more than once.

        Raises:
            NotImplementedError: Names the setting, the reason and what to use instead.
        """
        if self._is_version_2:
            return
        strategy = self._plugin.sharding_strategy.name
        if "HYBRID_SHARD" in strategy:
            raise NotImplementedError(
                f"fsdp_sharding_strategy: got {strategy}. FSDP version 1 does not tell how many ranks hold a shard, so"
                " inner products would be counted several times; set fsdp_version: 2, or use FULL_SHARD"
            )
        if self._plugin.ignored_modules:
            raise NotImplementedError(
                "fsdp_ignored_modules: FSDP version 1 keeps the parameters of these modules whole beside the sharded"
                " ones, so their inner products would be counted once per rank; set fsdp_version: 2, or ignore no"
                " modules"
            )

    @property
    def _plugin(self) -> Any:
        return self.accelerator.state.fsdp_plugin

    @property
    def _is_version_2(self) -> bool:
        return int(self._plugin.fsdp_version) == 2
