"""From the record of a run to its model card and to the Hub."""
