"""The card of a study: a sweep's final scores beside published ones."""
