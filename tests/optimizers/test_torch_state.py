"""The cases of torch's own optimizer suite about state dicts and hooks; ``test_torch_suite.py`` has the table."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from optimizer_cases import assert_bit_equal, snapshot
from optimizers.torch_problem import Problem, by_input, by_method, by_variant
from torch.optim import lr_scheduler
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

named = pytest.mark.parametrize("named", [(a, b) for a in (False, True) for b in (False, True)], ids=str)


def without_names(state_dict):
    groups = [{k: v for k, v in group.items() if k != "param_names"} for group in state_dict["param_groups"]]
    return {**state_dict, "param_groups": groups}


def assert_same(actual, expected):
    """Compare two state dicts to the bit, hyperparameters and names included."""
    torch.testing.assert_close(actual["state"], expected["state"], rtol=0, atol=0)
    for group, other in zip(actual["param_groups"], expected["param_groups"], strict=True):
        assert group.keys() == other.keys()
        assert all(group[name] == other[name] for name in group)


class TestStateDict:
    @by_variant
    @named
    def test_deterministic(self, cls, options, named):
        """A loaded optimizer takes the same steps, with or without names, and names are kept."""
        first, second = (Problem(cls, options, named=each) for each in named)
        first.run(4)
        for param, other in zip(first.params, second.params, strict=True):
            other.data.copy_(param.data)
        saved = copy.deepcopy(first.optimizer.state_dict())
        kept = copy.deepcopy(saved)
        second.optimizer.load_state_dict(saved)
        assert_same(saved, kept)
        for problem in (first, second):
            problem.run(4)
        assert_bit_equal(snapshot(second.optimizer), snapshot(first.optimizer), but=["param_names"])
        assert_same(*(without_names(each.optimizer.state_dict()) for each in (first, second)))
        groups = second.optimizer.state_dict()["param_groups"]
        names = [name for group in groups for name in group.get("param_names", [])]
        assert names == (["name0", "name1"] if any(named) else [])

    @by_method
    def test_group_given_twice(self, cls):
        """Repeated parameters have one index in the state dict (pytorch issue 36831)."""
        problem = Problem(cls, {})
        problem.run(1)
        expected = problem.optimizer.state_dict()["param_groups"][-1]["params"]
        problem.optimizer.param_groups.extend(problem.optimizer.param_groups)
        assert problem.optimizer.state_dict()["param_groups"][-1]["params"] == expected

    @by_input
    @pytest.mark.parametrize("named", [False, True])
    def test_saved_and_loaded_with_weights_only(self, cls, options, named):
        problem, buffer = Problem(cls, options, named=named), io.BytesIO()
        problem.run(3)
        saved = problem.optimizer.state_dict()
        torch.save(saved, buffer)
        for weights_only in (True, False):
            buffer.seek(0)
            assert_same(torch.load(buffer, weights_only=weights_only), saved)

    @by_input
    def test_state_is_not_empty(self, cls, options):
        problem = Problem(cls, options)
        problem.run(1)
        assert all("step" in problem.optimizer.state[param] for param in problem.params)

    @by_input
    def test_copies_have_all_public_attributes(self, cls, options):
        optimizer = Problem(cls, options).optimizer
        public = {name for name in vars(optimizer) if not name.startswith("_")}
        assert {name for name in vars(copy.deepcopy(optimizer)) if not name.startswith("_")} == public

    @by_method
    def test_printed(self, cls):
        optimizer = Problem(cls, {}).optimizer
        assert repr(optimizer).startswith(f"{cls.__name__} (")
        assert "weight_decay: " in repr(optimizer)

    @by_input
    @pytest.mark.parametrize("target", [torch.bfloat16, torch.float64], ids=str)
    def test_into_a_model_of_another_dtype(self, cls, options, target):
        """Averages take the dtype of the parameters; counters and the model of the loss keep their precision.

        Averages of rows and columns are never below float32.
        """
        first, second = Problem(cls, options), Problem(cls, options, dtype=target)
        first.run(3)
        saved = copy.deepcopy(first.optimizer.state_dict())
        second.optimizer.load_state_dict(saved)
        assert_same(saved, first.optimizer.state_dict())
        wide = torch.promote_types(target, torch.float32)
        for param in second.params:
            for name, value in second.optimizer.state[param].items():
                kept = {"step": torch.float32, "exp_avg_sq_row": wide, "exp_avg_sq_col": wide}
                assert value.dtype == kept.get(name, target)
        assert second.optimizer.last_step == first.optimizer.last_step
        second.run(1)
        assert {second.optimizer.param_groups[0][name].dtype for name in ("loss_avg", "lower_bound")} == {wide}
        assert second.optimizer.last_step.num_steps == 4

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    @by_variant
    def test_of_a_cpu_onto_a_gpu(self, cls, options):
        """Averages, counters and scalars move to the device of the parameters, and the run continues there."""
        first, second = Problem(cls, options), Problem(cls, options, device="cuda")
        first.run(3)
        saved = copy.deepcopy(first.optimizer.state_dict())
        second.optimizer.load_state_dict(saved)
        assert_same(saved, first.optimizer.state_dict())
        for param, other in zip(first.params, second.params, strict=True):
            other.data.copy_(param.data)
        for problem in (first, second):
            problem.run(3)
        state = [*second.optimizer.state[second.params[0]].values(), second.optimizer.param_groups[0]["loss_avg"]]
        assert all(tensor.is_cuda for tensor in state)
        for param, other in zip(first.params, second.params, strict=True):
            torch.testing.assert_close(other.cpu(), param, rtol=1e-4, atol=1e-5)

    @by_method
    @pytest.mark.parametrize("groups", [[[0], [1], []], [[0]]], ids=["number of groups", "size of a group"])
    def test_of_other_groups(self, cls, groups):
        """Torch's own errors, and nothing has changed."""
        problem = Problem(cls, {})
        problem.run(2)
        before = snapshot(problem.optimizer)
        other = cls([{"params": [problem.params[i] for i in group]} for group in groups])
        with pytest.raises(ValueError, match="loaded state dict"):
            problem.optimizer.load_state_dict(other.state_dict())
        assert_bit_equal(snapshot(problem.optimizer), before)

    @by_method
    def test_of_groups_without_the_entries_of_others(self, cls):
        """Schedulers (``initial_lr``) and users (``lr_scale``) add entries to groups.

        A checkpoint without these entries was refused as the state of another optimizer.
        """
        first, second = Problem(cls, {}), Problem(cls, {})
        first.run(2)
        second.optimizer.param_groups[0]["lr_scale"] = 0.5
        scheduler = lr_scheduler.ExponentialLR(second.optimizer, 0.5)
        second.optimizer.load_state_dict(first.optimizer.state_dict())
        assert second.optimizer.last_step.num_steps == 2
        rate = second.optimizer.param_groups[0]["lr"]
        second.run(1)
        scheduler.step()
        assert second.optimizer.param_groups[0]["lr"] == rate / 2

    @by_method
    def test_snapshot_keeps_its_tensor_lr(self, cls):
        """Schedulers write into a tensor lr, which changed a state dict taken before."""
        problem = Problem(cls, {"lr": torch.tensor(0.5)})
        scheduler = lr_scheduler.ExponentialLR(problem.optimizer, 0.5)
        taken = problem.optimizer.state_dict()
        problem.run(1)
        scheduler.step()
        assert float(problem.optimizer.param_groups[0]["lr"]) == 0.25
        assert float(taken["param_groups"][0]["lr"]) == 0.5


class TestHooks:
    @by_method
    def test_of_the_state_dict(self, cls):
        """A pre-hook may add to the state, and a post-hook may edit the state dict in place."""
        problem = Problem(cls, {})
        problem.run(1)
        problem.optimizer.register_state_dict_pre_hook(lambda optimizer: optimizer.state.update(test=1))
        assert problem.optimizer.state_dict()["state"]["test"] == 1
        problem.optimizer.register_state_dict_post_hook(
            lambda optimizer, state_dict: state_dict.update(seen=state_dict["state"].pop("test"))
        )
        state_dict = problem.optimizer.state_dict()
        assert state_dict["seen"] == 1
        assert "test" not in state_dict["state"]
        problem.run(1)
        assert problem.optimizer.last_step.num_steps == 2

    @by_method
    @pytest.mark.parametrize("prepend", [False, True])
    def test_post_hook_that_arranges_the_state_dict_anew(self, cls, prepend):
        """Post-hooks may return a dict without ``param_groups``, which was a KeyError."""
        problem = Problem(cls, {})
        problem.optimizer.register_state_dict_post_hook(lambda _, state_dict: {"inner": state_dict}, prepend=prepend)
        taken = problem.optimizer.state_dict()["inner"]
        problem.run(3)
        assert float(taken["param_groups"][0]["num_steps"]) == 0.0
        problem.optimizer.load_state_dict(taken)
        assert problem.optimizer.last_step.num_steps == 0

    @by_method
    def test_of_loading(self, cls):
        """Hooks run in order, with ``prepend`` first; one may return a dict to be loaded instead."""
        problem = Problem(cls, {})
        optimizer, saved = problem.optimizer, problem.optimizer.state_dict()

        def write(_, state_dict):
            state_dict["param_groups"][0]["lr"] = 0.002

        def replace(_, state_dict):
            state_dict = copy.deepcopy(state_dict)
            state_dict["param_groups"][0]["lr"] = 0.003
            return state_dict

        seen = []
        optimizer.register_load_state_dict_pre_hook(write)
        handle = optimizer.register_load_state_dict_pre_hook(replace, prepend=True)
        optimizer.register_load_state_dict_post_hook(lambda each: seen.append(each.param_groups[0]["lr"]))
        optimizer.load_state_dict(saved)
        handle.remove()
        optimizer.register_load_state_dict_pre_hook(replace)
        optimizer.load_state_dict(saved)
        assert seen == [0.002, 0.003]
        problem.run(1)
        assert 0.0 < optimizer.last_step.step_size[0] < 0.0031

    @by_method
    def test_of_steps(self, cls):
        """Global hooks run outside of the optimizer's own, and removed hooks do not run."""
        problem, calls = Problem(cls, {}), []

        def called(name):
            return lambda optimizer, args, kwargs: calls.append(name)

        handles = [
            register_optimizer_step_pre_hook(called("global pre")),
            register_optimizer_step_post_hook(called("global post")),
            problem.optimizer.register_step_pre_hook(called("pre")),
            problem.optimizer.register_step_post_hook(called("post")),
        ]
        try:
            problem.run(2)
        finally:
            for handle in handles:
                handle.remove()
        assert calls == 2 * ["global pre", "pre", "post", "global post"]
        problem.run(1)
        assert len(calls) == 8
