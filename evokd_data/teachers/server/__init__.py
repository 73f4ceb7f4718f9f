"""The parts of the teacher behind HTTP: settings, the open engine, dialects, endpoints."""
