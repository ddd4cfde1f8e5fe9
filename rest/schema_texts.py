"""OpenAPI descriptions of fields that mean the same wherever they stand. A field with another meaning has its own."""

from collections.abc import Mapping
from typing import Final

SHARED: Final[Mapping[str, str]] = {
    "id": "The object's ID.",
    "uri": "The object's absolute URI, on the base that the client called.",
    "createdAt": "When the object was created.",
    "updatedAt": "When the object was changed last.",
    "createdBy": "The API key or dashboard user that created the object.",
    "lastUpdatedBy": "The API key or dashboard user that changed the object last.",
    "name": "A name for people.",
    "description": "A text for people.",
    "metadata": "A text of the client's own, which the gateway does not read.",
    "keyRedacted": "The mask of the secret.",
    "lastUsed": "When the key was used last, exact to a minute; null: never.",
    "expiresAt": "The key is not valid from this time on.",
    "disabled": "Whether the key is switched off.",
    "token": "The token. Only this answer contains it.",
    "providerId": "The ID by which configurations and requests name the provider.",
    "modelId": "The model, as its provider spells it.",
    "displayName": "The name that people know.",
    "baseUrl": "The URL that the paths of the surfaces are appended to.",
    "supportedApiSurfaces": "The APIs that the provider serves.",
    "format": "The API's format.",
    "models": "The models that the provider serves.",
    "provider": "The provider's ID.",
    "model": "The model, as its provider spells it.",
    "access": "The providers and models that may be reached; null: all.",
    "router": "Whose credentials requests use, in which order; null: the default.",
    "errorCode": "The code of the reason, for programs.",
    "msg": "The reason, for people.",
    "path": "The JSON path of the place in the configuration.",
    "credentialsFrom": "The place in the configuration that names the credentials, or `default`.",
}
