"""The simulators that circuits run on."""
