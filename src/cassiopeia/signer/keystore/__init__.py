"""Key stores: the only modules that use a crypto backend's interface for CA keys."""
