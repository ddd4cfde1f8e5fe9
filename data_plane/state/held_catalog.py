"""The catalog as a worker holds it: models, prices, and the operator's sealed keys for managed inference."""

from collections.abc import Callable, Mapping
from typing import Final

from data_plane.state.documents import CATALOG_DOCUMENTS, Versioned
from gateway_core.catalog import Catalog, ModelsDocument
from gateway_core.sealing import Keyring, SealBroken, managed_binding
from gateway_core.snapshot import CATALOG, MANAGED_DOCUMENT, MODELS_DOCUMENT, ManagedKeysDocument

_OLDER: Final = "older than what is held"


class HeldCatalog:
    """The newest documents of the catalog, and what was made of them."""

    def __init__(self) -> None:
        self.catalog = Catalog(ModelsDocument(providers={}))
        self.documents: dict[str, Versioned] = {}
        # Where the stream stood when the catalog was last read from its hash: older entries are in it already.
        self.position = 0
        # The operator's sealed keys by provider (managed inference), and their values.
        self.managed: Mapping[str, bytes] = {}
        self._managed_values: dict[str, tuple[bytes, str | None]] = {}

    def install(
        self, documents: Mapping[str, Versioned], *, position: int, refuse: Callable[[str, str, str], None]
    ) -> None:
        """Take in documents. One that is older, missing or not understood leaves the last good one.

        Args:
            documents: by name.
            position: where the stream stood when they were read from the hash; 0 where a change brought them.
            refuse: called with (account, name, reason) for an older one.
        """
        self.position = max(self.position, position)
        held = self.documents
        newer: dict[str, Versioned] = {}
        for name in CATALOG_DOCUMENTS:
            read, last = documents.get(name), held.get(name)
            if read is None or read.document is None or (last is not None and read.version == last.version):
                continue
            if last is not None and read.version < last.version:
                refuse(CATALOG, name, _OLDER)
            else:
                newer[name] = read
        if not newer:
            return
        held.update(newer)
        models = held.get(MODELS_DOCUMENT)
        if models is None or not isinstance(models.document, ModelsDocument):
            return
        managed = held.get(MANAGED_DOCUMENT)
        if managed is not None and isinstance(managed.document, ManagedKeysDocument):
            self.managed = managed.document.keys
            self._managed_values = {name: known for name, known in self._managed_values.items() if name in self.managed}
        version = max(read.version for read in held.values())
        self.catalog = Catalog(models.document, version=version, managed=self.managed)

    def managed_value(self, provider: str, keyring: Keyring) -> tuple[str | None, bool]:
        """The operator's own key for a provider.

        Returns:
            (value, is_first_try): the value is None where there is no key, or where it does not open. It is opened
            once for each sealed value.
        """
        sealed = self.managed.get(provider)
        if sealed is None:
            return None, False
        known = self._managed_values.get(provider)
        if known is not None and known[0] == sealed:
            return known[1], False
        try:
            value: str | None = keyring.open(sealed, managed_binding(provider))
        except SealBroken:
            value = None
        self._managed_values[provider] = (sealed, value)
        return value, True
