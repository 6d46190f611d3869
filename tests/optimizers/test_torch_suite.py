"""The cases of torch's own optimizer suite, on every method of the table.

The names are those of ``test_optim.py``; ``OptimizerInfo`` and the inputs are those of
``torch.testing._internal.common_optimizers``. MoMo needs the value of the loss, so ``step()`` becomes
``step(loss=loss)`` or ``step(closure)``.

======================================================  ===============================================================
Case in torch                                           Here
======================================================  ===============================================================
errors for all optimizers, errors of each               ``TestErrors``, ``test_errors.py``
forloop_goes_right_direction, with schedulers           ``TestDirection``
param_groups_lr, param_groups_weight_decay              ``TestGroups``
step_is_noop_for_zero_grads, ..._params_have_no_grad    ``TestGroups``, ``test_tensors.py``
state_dict_deterministic, from and to named, printed    ``test_torch_state.py``
save_load_equality_with_weights_only, non_empty_state   ``test_torch_state.py``, ``test_state.py``
load_nontensor_step                                     ``test_reported.py``
cpu_load_state_dict, state_dict_with_cuda_params        ``test_torch_state.py``, by dtype and by device (GPU)
hooks of step, state_dict and load_state_dict           ``test_torch_state.py``
deepcopy_copies_all_public_attrs                        ``test_torch_state.py``; pickle in ``test_state.py``
tensor_lr; schedulers, SWA, GradScaler                  ``test_torch_schedulers.py``
set_default_dtype_works                                 ``TestDirection``
grads_are_never_inplaced_into, mixed dtypes, layouts    ``test_tensors.py``
second_order_optims_return_consistent_types             ``TestClosures``: the closure is called once, its loss returned
peak_memory, large tensors                              ``test_no_waiting.py``, ``measure_kernels/test_steps.py``
capturable matches not capturable                       ``measure_kernels/test_triton.py`` (graph capture, GPU)
compiled optimizers                                     ``TestDirection``, ``tests/test_compiled.py``
complex, complex_2d                                     does not apply: refused, the error names ``view_as_real``
sparse, rosenbrock_sparse, metadata_for_sparse          does not apply: refused, averages and inner products are dense
mixed_device, multigpu                                  does not apply: refused, one step sums over all parameters
foreach, fused, defaults_changed_to_foreach             does not apply: one implementation, chosen by ``kernel``
found_inf of fused optimizers                           does not apply: the step itself skips what is not finite
differentiable                                          does not apply: a step runs under ``no_grad``, in fused kernels
maximize                                                does not apply: the model needs a loss with a lower bound
capturable (flag), tensor betas                         does not apply: every step can be captured; betas are numbers
can_load_older_state_dict                               does not apply: no option was added after a release
======================================================  ===============================================================
"""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from optimizer_cases import assert_bit_equal, snapshot
from optimizers.torch_problem import Problem, by_input, by_method, by_variant
from torch import nn
from torch.optim import lr_scheduler


class TestErrors:
    @by_method
    @pytest.mark.parametrize(
        ("params", "error", "message"),
        [
            (lambda a, b: a, TypeError, "should be an iterable of Tensors or dicts"),
            (lambda a, b: [{"params": a}, {"params": a}], ValueError, "appear in more than one parameter group"),
            (lambda a, b: [("weight", a), b], ValueError, "Some param names are missing"),
            (
                lambda a, b: [{"params": [a], "lr": 1e-2}, {"params": [("weight", b)]}],
                ValueError,
                "cannot add param group with names",
            ),
            (lambda a, b: [], ValueError, "empty parameter list"),
        ],
    )
    def test_params(self, cls, params, error, message):
        with pytest.raises(error, match=message):
            cls(params(*(nn.Parameter(torch.randn(1, 1)) for _ in range(2))))

    @by_method
    def test_duplicates_in_one_group(self, cls):
        param = nn.Parameter(torch.randn(1, 1))
        with pytest.warns(UserWarning, match="a parameter group with duplicate parameters"):
            cls([param, param])

    @by_method
    @pytest.mark.parametrize("flag", ["foreach", "fused", "capturable", "differentiable", "maximize"])
    def test_flags_are_refused(self, cls, flag):
        """A flag without an effect is refused instead of ignored."""
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{flag}'"):
            cls([nn.Parameter(torch.ones(2))], **{flag: True})


class TestDirection:
    @by_input
    @pytest.mark.parametrize(
        ("contiguous", "schedule"), [(True, None), (False, None), (True, "StepLR"), (True, "ReduceLROnPlateau")]
    )
    def test_goes_the_right_way(self, cls, options, contiguous, schedule):
        """The loss falls, and ``closure`` and ``loss=`` take the same steps."""
        ends = []
        for by_closure in (True, False):
            problem = Problem(cls, options, contiguous=contiguous)
            optimizer, first = problem.optimizer, problem.closure().item()
            scheduler = {
                None: lambda o: None,
                "StepLR": lambda o: lr_scheduler.StepLR(o, gamma=0.9, step_size=10),
                "ReduceLROnPlateau": lr_scheduler.ReduceLROnPlateau,
            }[schedule](optimizer)
            for _ in range(8):
                loss = optimizer.step(problem.closure) if by_closure else optimizer.step(loss=problem.closure())
                if scheduler is not None:
                    scheduler.step(*([loss.detach()] if schedule == "ReduceLROnPlateau" else []))
            assert problem.closure().item() < first
            ends.append(snapshot(optimizer))
        assert_bit_equal(*ends)

    @by_variant
    @pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
    def test_default_dtype(self, cls, options, default):
        """Models are often made under ``set_default_dtype``, which must not change the dtype of a step."""
        ends = []
        for dtype in (torch.float32, default):
            problem = Problem(cls, options)
            torch.set_default_dtype(dtype)
            try:
                problem.optimizer = cls(problem.params, **copy.deepcopy(options))
                problem.run(3)
                problem.optimizer.step(loss=float("nan"))
                problem.run(2)
            finally:
                torch.set_default_dtype(torch.float32)
            ends.append(snapshot(problem.optimizer))
        assert_bit_equal(*ends)

    @by_method
    @pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning", "ignore:Profiler record:UserWarning")
    def test_compiled(self, cls):
        """A step called from compiled code is the step itself, to the bit."""
        ends = []
        for compiled in (False, True):
            problem = Problem(cls, {})
            step = lambda loss, optimizer=problem.optimizer: optimizer.step(loss=loss)  # noqa: E731
            step = torch.compile(step, backend="eager") if compiled else step
            for _ in range(3):
                step(problem.closure().detach())
            ends.append(snapshot(problem.optimizer))
        assert_bit_equal(*ends)


class TestGroups:
    @by_method
    def test_param_groups_lr(self, cls):
        """Only the group with a rate above 0 moves, and a parameter without gradients does not."""
        problem = Problem(cls, {})
        (weight, bias), unused = problem.params, nn.Parameter(torch.randn(3))
        groups = [{"params": [weight]}, {"params": [bias], "lr": 0.01}, {"params": [unused], "lr": 0.01}]
        problem.optimizer = cls(groups, lr=0.0, weight_decay=0.1)
        before = [param.detach().clone() for param in (weight, bias, unused)]
        first = problem.closure().item()
        problem.run(10)
        moved = [not torch.equal(p, old) for p, old in zip((weight, bias, unused), before, strict=True)]
        assert moved == [False, True, False]
        assert problem.closure().item() < first

    @by_method
    def test_param_groups_weight_decay(self, cls):
        """With zero gradients the group with decay shrinks by one factor, and the other does not change."""
        decayed, kept = (nn.Parameter(torch.rand(4) + 1) for _ in range(2))
        optimizer = cls([{"params": [decayed], "weight_decay": 0.5}, {"params": [kept]}], lr=0.1)
        before = [decayed.detach().clone(), kept.detach().clone()]
        for param in (decayed, kept):
            param.grad = torch.zeros_like(param)
        optimizer.step(loss=1.0)
        ratio = decayed.detach() / before[0]
        torch.testing.assert_close(ratio, ratio.mean().expand(4))
        assert 0.9 < float(ratio.mean()) < 0.97
        assert torch.equal(kept, before[1])

    @by_input
    def test_step_is_noop_for_zero_grads(self, cls, options):
        problem = Problem(cls, {**options, "weight_decay": 0.0})
        before = [param.detach().clone() for param in problem.params]
        for loss, param in itertools.product((1.0, 0.0), problem.params):
            param.grad = torch.zeros_like(param)
            problem.optimizer.step(loss=loss)
        assert all(torch.equal(p, old) for p, old in zip(problem.params, before, strict=True))

    @by_variant
    @pytest.mark.parametrize("at", [0, 1, 2])
    def test_group_without_parameters(self, cls, options, at):
        """An empty group, as a filter without matches makes, changes no step, in any position."""
        ends = []
        for empty in (False, True):
            problem = Problem(cls, options)
            groups = [{"params": [param]} for param in problem.params]
            groups[at:at] = [{"params": []}] if empty else []
            problem.optimizer = cls(groups, **copy.deepcopy(options))
            problem.run(4)
            assert problem.optimizer.last_step.num_steps == 4
            ends.append(torch.cat([param.detach().reshape(-1) for param in problem.params]))
        assert torch.equal(*ends)

    @by_input
    def test_late_group(self, cls, options):
        """A group added after some steps joins the model, moves, and is saved and loaded like the others."""
        problems = [Problem(cls, options) for _ in range(2)]
        for problem in problems:
            problem.optimizer = cls(problem.params[:1], **copy.deepcopy(options))
        problems[0].run(3)
        early = copy.deepcopy(problems[0].optimizer.state_dict())
        for problem in problems:
            problem.optimizer.add_param_group({"params": problem.params[1], "lr": 0.02})
        first, late = problems[0].optimizer.param_groups
        assert float(late["loss_avg"]) == float(first["loss_avg"]) > 0.0
        before = problems[0].params[1].detach().clone()
        problems[0].run(3)
        assert problems[0].optimizer.last_step.num_steps == 6
        assert not torch.equal(problems[0].params[1], before)
        problems[1].optimizer.load_state_dict(copy.deepcopy(problems[0].optimizer.state_dict()))
        for param, other in zip(*(problem.params for problem in problems), strict=True):
            other.data.copy_(param.data)
        for problem in problems:
            problem.run(2)
        assert_bit_equal(*(snapshot(problem.optimizer) for problem in problems))
        with pytest.raises(ValueError, match="different number of parameter groups"):
            problems[0].optimizer.load_state_dict(early)
        assert_bit_equal(*(snapshot(problem.optimizer) for problem in problems))


class TestClosures:
    @by_input
    def test_called_once_with_gradients_on(self, cls, options):
        """Gradients are enabled in the closure, also under ``no_grad``, and its loss is returned unchanged."""
        problem, calls = Problem(cls, options), []

        def closure():
            calls.append(torch.is_grad_enabled())
            return problem.closure()

        with torch.no_grad():
            returned = problem.optimizer.step(closure)
        assert calls == [True]
        assert returned.requires_grad
        assert problem.optimizer.step(lambda: problem.closure().item()).__class__ is float
        assert problem.optimizer.last_step.num_steps == 2

    @by_method
    def test_zero_grad(self, cls):
        problem = Problem(cls, {})
        problem.closure()
        pointers = [param.grad.data_ptr() for param in problem.params]
        problem.optimizer.zero_grad(set_to_none=False)
        assert [param.grad.data_ptr() for param in problem.params] == pointers
        assert not any(param.grad.any() for param in problem.params)
        problem.optimizer.zero_grad()
        assert all(param.grad is None for param in problem.params)

    @by_method
    def test_names_in_a_profile(self, cls):
        problem = Problem(cls, {})
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            problem.run(1)
        name = cls.__name__
        assert {f"Optimizer.step#{name}.step", f"Optimizer.zero_grad#{name}.zero_grad"} <= {
            event.key for event in profile.key_averages()
        }
