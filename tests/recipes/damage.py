"""Damage to compressed files."""


def corrupt(packed: bytes) -> bytes:
    """Return a compressed file whose header and end are whole and whose content is not."""
    middle = len(packed) // 2
    return packed[:middle] + bytes(byte ^ 0xA5 for byte in packed[middle : middle + 40]) + packed[middle + 40 :]
