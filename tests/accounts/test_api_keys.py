"""API keys over the wire (contract, section 6)."""


def test_an_api_key_lives_from_post_to_delete(api):
    created = api.post("api-keys", {"name": "ci"})
    assert created.status_code == 201, created.content
    body = created.json()
    assert created["Location"] == body["uri"]
    assert api.get(body["uri"]).status_code == 200
    listed = api.get("api-keys?limit=1").json()
    assert listed["aiGatewayApiKeys"][0]["id"] == body["id"]
    assert api.patch(body["uri"], {"name": None}).status_code == 200
    assert "name" not in api.get(body["uri"]).json()
    assert api.delete(body["uri"]).status_code == 204
    assert api.get(body["uri"]).status_code == 404


def test_the_same_post_with_the_same_idempotency_key_is_answered_alike(api, assert_refused):
    first = api.post("api-keys", {"name": "ci"}, idempotency_key="one")
    again = api.post("api-keys", {"name": "ci"}, idempotency_key="one")
    assert (first.status_code, first.content) == (again.status_code, again.content)
    assert_refused(api.post("api-keys", {"name": "cd"}, idempotency_key="one"), 422, "idempotency_key_reused")
