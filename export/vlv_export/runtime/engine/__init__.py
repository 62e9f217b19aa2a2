"""Running engines on a GPU. `_device` and `_tensorrt` alone touch hardware; what they offer is
`device.Device` and `device.Engine`, and all else runs on any two that do the same."""
