"""Files, versions and threads: helpers that know nothing of MoMo."""
