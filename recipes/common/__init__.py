"""What all recipes share: settings from YAML and command line, pictures, the record of a run."""
