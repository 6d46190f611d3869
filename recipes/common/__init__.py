"""The parts that all recipes share: settings, reading of files, pictures, the record of a run."""
