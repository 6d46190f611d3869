"""The loss tap: from what is back-propagated to ``optimizer.step(loss=...)``."""
