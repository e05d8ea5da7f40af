"""FileHashCode: real files, and its nodes in both forms."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from cloudfinite.errors import InvalidArgument, UnsupportedOption
from cloudfinite.operations import operations
from cloudfinite.operations.file_hash_code import HashParams, HashResult, HashType, hash_file
from cloudfinite.wire.documents import parse_body, read_fields
from cloudfinite.wire.nodes import sorted_by_name, to_json, to_xml, tree
from cloudfinite.wire.operation import LocalFile

CONTENT = bytes(range(256)) * 9_000


@pytest.fixture
def source(tmp_path: Path) -> LocalFile:
    path = tmp_path / "object"
    path.write_bytes(CONTENT)
    return LocalFile(path, "a.bin", len(CONTENT), '"0fe7"', "Mon, 27 Jun 2022 07:23:11 GMT")


@pytest.mark.parametrize("kind", list(HashType))
def test_file_is_hashed(kind: HashType, source: LocalFile) -> None:
    found = hash_file(source, HashParams(kind), None)
    assert getattr(found, kind.lower()) == hashlib.new(kind.lower(), CONTENT).hexdigest()
    assert found.size_bytes == len(CONTENT)


def test_result_tells_what_is_known_of_the_object(source: LocalFile) -> None:
    found = tree("FileHashCodeResult", hash_file(source, HashParams(HashType.MD5), None))
    md5 = hashlib.md5(CONTENT).hexdigest()
    assert to_xml(found).decode() == (
        f"<FileHashCodeResult><MD5>{md5}</MD5><FileSize>2304000</FileSize>"
        '<LastModified>2022-06-27T15:23:11+0800</LastModified><Etag>"0fe7"</Etag></FileHashCodeResult>'
    )
    assert json.loads(to_json(found, wrapped=False)) == {
        "MD5": md5,
        "FileSize": 2304000,
        "LastModified": "2022-06-27T15:23:11+0800",
        "Etag": '"0fe7"',
    }


def test_empty_file_from_a_url_has_hash_and_size_only(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    found = hash_file(LocalFile(tmp_path / "empty"), HashParams(HashType.SHA1), None)
    assert found == HashResult(sha1="da39a3ee5e6b4b0d3255bfef95601890afd80709", size_bytes=0)


@pytest.mark.parametrize("text", ["SHA256", "sha256"])
def test_type_may_be_in_small_letters(text: str) -> None:
    body = f"<FileHashCodeConfig><Type>{text}</Type></FileHashCodeConfig>".encode()
    params = read_fields(HashParams, parse_body(body, "FileHashCodeConfig"))
    assert to_xml(sorted_by_name(tree("FileHashCodeConfig", params))) == (
        b"<FileHashCodeConfig><AddToHeader>false</AddToHeader><Type>SHA256</Type></FileHashCodeConfig>"
    )


def test_type_is_required_and_one_of_three() -> None:
    with pytest.raises(InvalidArgument, match="needs Type"):
        read_fields(HashParams, parse_body(b"<FileHashCodeConfig/>", "FileHashCodeConfig"))
    with pytest.raises(InvalidArgument, match="must be one of MD5, SHA1, SHA256"):
        read_fields(
            HashParams, parse_body(b"<FileHashCodeConfig><Type>CRC</Type></FileHashCodeConfig>", "FileHashCodeConfig")
        )


def test_adding_to_the_header_is_refused_rather_than_forgotten(source: LocalFile) -> None:
    with pytest.raises(UnsupportedOption, match="AddToHeader is true"):
        hash_file(source, HashParams(HashType.MD5, add_to_header=True), None)


def test_values_survive_the_way_through_the_store(source: LocalFile) -> None:
    operation = operations()["FileHashCode"]
    params = HashParams(HashType.SHA256)
    assert operation.params_value(json.loads(json.dumps(operation.params_data(params)))) == params
    found = hash_file(source, params, None)
    assert operation.result_value(json.loads(json.dumps(operation.result_data(found)))) == found
