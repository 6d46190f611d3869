"""The loss tap: carries the back-propagated loss to ``optimizer.step(loss=...)``. ``README.md`` explains it."""
