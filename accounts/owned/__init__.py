"""The base classes of all objects that an account owns: abstract models, services, serializers and views."""
