"""Base models by name: fetched, converted, loaded frozen, on a device and in a type."""
