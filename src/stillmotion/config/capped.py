"""Importing this caps the instruction set (see processor.py): the first import of every script, command and test."""

from stillmotion.config.processor import cap_instructions

cap_instructions()
