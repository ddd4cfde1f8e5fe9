"""Access keys over the wire (contract, section 2)."""


def test_an_access_key_lives_from_post_to_delete(api):
    created = api.post("access-keys", {"name": "app"})
    assert created.status_code == 201, created.content
    body = created.json()
    assert created["Location"] == body["uri"]
    assert api.get(body["uri"]).status_code == 200
    assert api.patch(body["uri"], {"name": None}).status_code == 200
    assert "name" not in api.get(body["uri"]).json()
    assert api.delete(body["uri"]).status_code == 204
    assert api.get(body["uri"]).status_code == 404
