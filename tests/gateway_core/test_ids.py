"""Holds: gateway_core.ids"""

import itertools
import os
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.ids import InvalidId, Prefix, from_text, new_id, to_text

PREFIXES = st.sampled_from(list(Prefix))


@pytest.mark.parametrize(
    ("identity", "suffix"),
    [
        ("00000000-0000-0000-0000-000000000000", "00000000000000000000000000"),
        ("00000000-0000-0000-0000-000000000001", "00000000000000000000000001"),
        ("00000000-0000-0000-0000-00000000000a", "0000000000000000000000000a"),
        ("00000000-0000-0000-0000-000000000010", "0000000000000000000000000g"),
        ("00000000-0000-0000-0000-000000000020", "00000000000000000000000010"),
        ("ffffffff-ffff-ffff-ffff-ffffffffffff", "7zzzzzzzzzzzzzzzzzzzzzzzzz"),
        ("0110c853-1d09-52d8-d73e-1194e95b5f19", "0123456789abcdefghjkmnpqrs"),
        ("01890a5d-ac96-774b-bcce-b302099a8057", "01h455vb4pex5vsknk084sn02q"),
    ],
)
def test_the_texts_are_those_of_the_typeid_specification(identity, suffix):
    text = to_text(Prefix.ACCESS_KEY, uuid.UUID(identity))

    assert text == f"aigk_{suffix}"
    assert from_text(Prefix.ACCESS_KEY, text) == uuid.UUID(identity)


@given(PREFIXES, st.uuids())
def test_every_id_comes_back_from_its_text(prefix, identity):
    assert from_text(prefix, to_text(prefix, identity)) == identity


@given(st.uuids(), st.uuids())
def test_texts_sort_as_the_ids_do(one, other):
    assert (to_text(Prefix.ACCOUNT, one) < to_text(Prefix.ACCOUNT, other)) == (one < other)


@given(PREFIXES, st.text(max_size=40) | st.from_regex(r"[a-z]{2,6}_[0-9A-Za-z]{25,27}", fullmatch=True))
def test_a_text_is_refused_or_is_the_only_one_of_its_id(prefix, text):
    try:
        identity = from_text(prefix, text)
    except InvalidId:
        return

    assert to_text(prefix, identity) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "aigk",
        "aigk_",
        "aigk_01h455vb4pex5vsknk084sn02",
        "aigk_01h455vb4pex5vsknk084sn02qq",
        "aigk_01H455VB4PEX5VSKNK084SN02Q",
        "AIGK_01h455vb4pex5vsknk084sn02q",
        "aigk-01h455vb4pex5vsknk084sn02q",
        "aigkk_01h455vb4pex5vsknk084sn02q",
        " aigk_01h455vb4pex5vsknk084sn02q",
        "aigk_01h455vb4pex5vsknk084sn02q\n",
        "aigk_01h455vb4pex5vsknk084sn02\n",
        "aigk_8zzzzzzzzzzzzzzzzzzzzzzzzz",
        "aigk_z0000000000000000000000000",
        "aigk_01h455vb4pex5vsknk084sn02l",
        "aigk_01h455vb4pex5vsknk084sn0\u00e9",
        "aigk_01h455vb4pex5vsknk084sn02\ud800",
        "aigk_01h455vb4pex5vsknk084sn02\uff11",
        "01h455vb4pex5vsknk084sn02q",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "aigk_" + "0" * 1_000_000,
        None,
        7,
        b"aigk_01h455vb4pex5vsknk084sn02q",
        uuid.UUID(int=0),
        ["aigk_01h455vb4pex5vsknk084sn02q"],
    ],
    ids=lambda text: repr(text)[:40],
)
def test_what_is_not_the_canonical_text_is_refused(text):
    with pytest.raises(InvalidId):
        from_text(Prefix.ACCESS_KEY, text)


@pytest.mark.parametrize(("asked", "named"), list(itertools.permutations(Prefix, 2)))
def test_the_id_of_one_kind_is_never_that_of_another(asked, named):
    with pytest.raises(InvalidId):
        from_text(asked, to_text(named, new_id()))


def test_new_ids_are_uuids_of_version_7_of_the_standard_library():
    identity = new_id()

    assert type(identity) is uuid.UUID
    assert (identity.version, identity.variant) == (7, uuid.RFC_4122)


def test_new_ids_grow_within_a_process():
    made = [new_id() for _ in range(20_000)]

    assert all(earlier < later for earlier, later in itertools.pairwise(made))


def test_threads_get_growing_ids_and_never_the_same_one():
    made: list[list[uuid.UUID]] = [[] for _ in range(4)]

    def make(mine):
        mine.extend(new_id() for _ in range(5_000))

    threads = [threading.Thread(target=make, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set().union(*made)) == 20_000
    assert all(mine == sorted(mine) for mine in made)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_does_not_repeat_its_parents_ids():
    new_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"".join(new_id().bytes for _ in range(1_000)))
        os._exit(0)
    os.close(writer)

    ours = {new_id().bytes for _ in range(1_000)}
    with os.fdopen(reader, "rb") as pipe:
        theirs = pipe.read()
    os.waitpid(child, 0)

    assert len(theirs) == 16_000
    assert ours.isdisjoint({theirs[at : at + 16] for at in range(0, len(theirs), 16)})
