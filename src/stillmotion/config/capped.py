"""Importing this caps the instruction set (see processor.py) and says what a signal does (see interrupts.py).

It is the first import of every script, command and test.
"""

from stillmotion.config.interrupts import leave_at_once
from stillmotion.config.processor import cap_instructions

leave_at_once()
cap_instructions()
