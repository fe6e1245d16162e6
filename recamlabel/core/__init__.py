"""What knows no image and no run: arrays, classes, devices, memory, progress, registries."""
