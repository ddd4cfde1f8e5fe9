"""The base of everything that an account owns: abstract models, their writes, serializers and views."""
