"""Asks the S3 server as boto3's users do; each function is one case, and the bucket `bucket` is there."""

import base64
import hashlib
import os
import random
import sys
import urllib.request
import zlib

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

MIB = 1024 * 1024


def client(access_key=None, secret_key=None, **config):
    return boto3.client(
        "s3",
        endpoint_url=os.environ["S3_ENDPOINT_URL"],
        aws_access_key_id=access_key or os.environ["S3_ACCESS_KEY_ID"],
        aws_secret_access_key=secret_key or os.environ["S3_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **config),
    )


s3 = client()


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"{found} and not {code}"
        return error.response["ResponseMetadata"]["HTTPStatusCode"]
    raise AssertionError(f"not refused with {code}")


def put(key, body=b"", **more):
    return s3.put_object(Bucket="bucket", Key=key, Body=body, **more)


def get(key, **more):
    return s3.get_object(Bucket="bucket", Key=key, **more)


def sha256(data):
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


def buckets():
    s3.create_bucket(Bucket="another")
    assert {"bucket", "another"} == {b["Name"] for b in s3.list_buckets()["Buckets"]}
    s3.head_bucket(Bucket="another")
    s3.get_bucket_location(Bucket="another")
    s3.put_object(Bucket="another", Key="x", Body=b"x")
    refused("BucketNotEmpty", s3.delete_bucket, Bucket="another")
    s3.delete_object(Bucket="another", Key="x")
    s3.delete_bucket(Bucket="another")
    assert refused("404", s3.head_bucket, Bucket="another") == 404
    refused("NoSuchBucket", s3.put_object, Bucket="another", Key="x", Body=b"")
    refused("NoSuchBucket", s3.list_objects_v2, Bucket="another")


KEYS = [
    "plain.txt", "a", "a/b", "a/b/c", "sp ace", "plus+", "percent%41", "hash#", "quo\"te'", "line\nfeed", "🚀/🦀",
    "caf\u00e9", "cafe\u0301", ".hidden", "dir/", "two//slashes", "x" * 255, "é" * 500, "y" * 1024, "back\\slash",
    "question?&=;", "<xml>&amp;",
]


def odd_keys_and_metadata():
    for key in KEYS:
        put(key, key.encode(), ContentType="text/x-odd", Metadata={"du-token": "value with spaces"})
    for key in KEYS:
        found = get(key)
        assert found["Body"].read() == key.encode(), key
        assert found["ContentType"] == "text/x-odd" and found["Metadata"] == {"du-token": "value with spaces"}
        head = s3.head_object(Bucket="bucket", Key=key)
        assert head["ContentLength"] == len(key.encode()) and head["Metadata"]["du-token"]
        assert head["ETag"] == '"' + hashlib.md5(key.encode()).hexdigest() + '"'
    listed = [o["Key"] for o in s3.list_objects_v2(Bucket="bucket")["Contents"]]
    assert listed == sorted(KEYS, key=lambda key: key.encode()), listed
    assert refused("NoSuchKey", get, key="none") == 404
    assert refused("404", s3.head_object, Bucket="bucket", Key="none") == 404


def ranges_and_conditions():
    data = os.urandom(3 * MIB)
    etag = put("r", data)["ETag"]
    assert get("r")["Body"].read() == data
    part = get("r", Range="bytes=10-19")
    assert part["Body"].read() == data[10:20] and part["ContentRange"] == f"bytes 10-19/{len(data)}"
    assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert get("r", Range="bytes=-5")["Body"].read() == data[-5:]
    assert get("r", Range=f"bytes={len(data) - 3}-")["Body"].read() == data[-3:]
    assert refused("InvalidRange", get, key="r", Range=f"bytes={len(data)}-") == 416
    assert refused("PreconditionFailed", put, key="r", body=b"", IfNoneMatch="*") == 412
    assert refused("PreconditionFailed", put, key="r", body=b"", IfMatch='"other"') == 412
    assert refused("PreconditionFailed", get, key="r", IfMatch='"other"') == 412
    assert refused("304", get, key="r", IfNoneMatch=etag) == 304
    put("r", b"new", IfMatch=etag)
    put("fresh", b"", IfNoneMatch="*")
    assert get("r")["Body"].read() == b"new" and get("fresh")["Body"].read() == b""


def checksums_of_puts():
    data = os.urandom(2 * MIB)
    # boto3 sends what it computes itself as trailers of a chunked body.
    for name in ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"]:
        field = f"Checksum{name}"
        said = put(name, data, ChecksumAlgorithm=name)[field]
        head = s3.head_object(Bucket="bucket", Key=name, ChecksumMode="ENABLED")
        assert head[field] == said and head["ChecksumType"] == "FULL_OBJECT"
        assert field not in s3.head_object(Bucket="bucket", Key=name)
        # With the mode on, the client itself checks the body.
        assert get(name, ChecksumMode="ENABLED")["Body"].read() == data
    assert put("h", data, ChecksumSHA256=sha256(data))["ChecksumSHA256"] == sha256(data)
    assert refused("BadDigest", put, key="h", body=data, ChecksumSHA256=sha256(b"other")) == 400
    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    assert put("c", data, ChecksumCRC32=crc)["ChecksumCRC32"] == crc
    refused("BadDigest", put, key="c", body=data[1:], ChecksumCRC32=crc)
    md5 = base64.b64encode(hashlib.md5(data).digest()).decode()
    put("m", data, ContentMD5=md5)
    refused("BadDigest", put, key="m", body=b"other", ContentMD5=md5)
    assert get("m")["Body"].read() == data, "a refused body replaced the object"
    plain = client(request_checksum_calculation="when_required")
    assert plain.put_object(Bucket="bucket", Key="p", Body=data)["ChecksumCRC64NVME"]


def listings():
    keys = sorted([f"a/{n:03}" for n in range(250)] + [f"d{n % 7}/{n}" for n in range(50)] + ["b", "c c", "z+%"])
    for key in keys:
        put(key)
    for size in [1000, 7]:
        pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", PaginationConfig={"PageSize": size}))
        assert [o["Key"] for p in pages for o in p.get("Contents", [])] == keys
        pages = list(
            s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", Delimiter="/", PaginationConfig={"PageSize": size})
        )
        assert [o["Key"] for p in pages for o in p.get("Contents", [])] == ["b", "c c", "z+%"]
        folders = [c["Prefix"] for p in pages for c in p.get("CommonPrefixes", [])]
        assert folders == ["a/"] + [f"d{n}/" for n in range(7)], folders
        old = list(s3.get_paginator("list_objects").paginate(Bucket="bucket", Prefix="a/", PaginationConfig={"PageSize": size}))
        assert [o["Key"] for p in old for o in p.get("Contents", [])] == keys[:250]
    after = s3.list_objects_v2(Bucket="bucket", StartAfter="a/248", Prefix="a/")
    assert [o["Key"] for o in after["Contents"]] == ["a/249"] and after["KeyCount"] == 1


def upload(key, parts, completion=None, part_more=None, **more):
    upload_id = s3.create_multipart_upload(Bucket="bucket", Key=key, **more)["UploadId"]
    done = []
    for number, part in enumerate(parts, 1):
        said = s3.upload_part(
            Bucket="bucket", Key=key, UploadId=upload_id, PartNumber=number, Body=part, **(part_more or {})
        )
        sums = {name: value for name, value in said.items() if name.startswith("Checksum")}
        done.append({"PartNumber": number, "ETag": said["ETag"], **sums})
    end = lambda parts=done, **late: s3.complete_multipart_upload(
        Bucket="bucket", Key=key, UploadId=upload_id, MultipartUpload={"Parts": parts}, **(completion or {}), **late
    )
    return upload_id, done, end


PARTS = [random.Random(n).randbytes(5 * MIB + n) for n in (0, 1)] + [b"last"]


def multipart():
    whole = b"".join(PARTS)
    upload_id, done, end = upload("m", PARTS, ContentType="text/m", Metadata={"k": "v"})
    listed = s3.list_parts(Bucket="bucket", Key="m", UploadId=upload_id)["Parts"]
    assert [(p["PartNumber"], p["Size"], p["ETag"]) for p in listed] == [
        (n, len(part), '"' + hashlib.md5(part).hexdigest() + '"') for n, part in enumerate(PARTS, 1)
    ]
    page = s3.list_parts(Bucket="bucket", Key="m", UploadId=upload_id, MaxParts=2)
    assert page["IsTruncated"] and page["NextPartNumberMarker"] == 2 and len(page["Parts"]) == 2
    page = s3.list_parts(Bucket="bucket", Key="m", UploadId=upload_id, MaxParts=2, PartNumberMarker=2)
    assert not page["IsTruncated"] and [p["PartNumber"] for p in page["Parts"]] == [3]
    refused("InvalidPartOrder", end, parts=done[::-1])
    refused("InvalidPart", end, parts=[{**done[0], "ETag": '"0"'}])
    refused("InvalidPart", end, parts=done + [{"PartNumber": 4, "ETag": '"0"'}])
    assert refused("NoSuchKey", get, key="m") == 404
    answer = end()
    md5s = b"".join(hashlib.md5(part).digest() for part in PARTS)
    assert answer["ETag"] == f'"{hashlib.md5(md5s).hexdigest()}-3"'
    found = get("m")
    assert found["Body"].read() == whole and found["ContentType"] == "text/m" and found["Metadata"] == {"k": "v"}
    assert refused("NoSuchUpload", end) == 404
    refused("NoSuchUpload", s3.list_parts, Bucket="bucket", Key="m", UploadId=upload_id)

    _, _, end = upload("m", [b"replaced"])
    assert refused("PreconditionFailed", end, IfNoneMatch="*") == 412
    end()
    assert get("m")["Body"].read() == b"replaced"


def multipart_checksums():
    whole = b"".join(PARTS)
    put("whole", whole, ChecksumAlgorithm="CRC64NVME")
    crc = s3.head_object(Bucket="bucket", Key="whole", ChecksumMode="ENABLED")["ChecksumCRC64NVME"]
    more = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
    part = {"ChecksumAlgorithm": "CRC64NVME"}
    upload_id, done, end = upload("f", PARTS, part_more=part, **more)
    assert all(p["ChecksumCRC64NVME"] for p in s3.list_parts(Bucket="bucket", Key="f", UploadId=upload_id)["Parts"])
    refused("BadDigest", end, ChecksumCRC64NVME=done[0]["ChecksumCRC64NVME"], ChecksumType="FULL_OBJECT")
    assert end(ChecksumCRC64NVME=crc, ChecksumType="FULL_OBJECT")["ChecksumCRC64NVME"] == crc
    head = s3.head_object(Bucket="bucket", Key="f", ChecksumMode="ENABLED")
    assert head["ChecksumCRC64NVME"] == crc and head["ChecksumType"] == "FULL_OBJECT"
    assert get("f", ChecksumMode="ENABLED")["Body"].read() == whole

    _, _, end = upload("s", PARTS, part_more={"ChecksumAlgorithm": "SHA256"}, ChecksumAlgorithm="SHA256")
    digests = b"".join(hashlib.sha256(part).digest() for part in PARTS)
    answer = end()
    assert answer["ChecksumSHA256"] == sha256(digests) + "-3" and answer["ChecksumType"] == "COMPOSITE"

    more = {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
    _, _, end = upload("c", PARTS, part_more={"ChecksumAlgorithm": "CRC32"}, **more)
    assert end()["ChecksumCRC32"] == base64.b64encode(zlib.crc32(whole).to_bytes(4, "big")).decode()

    upload_id = s3.create_multipart_upload(Bucket="bucket", Key="bad")["UploadId"]
    one = {"Bucket": "bucket", "Key": "bad", "UploadId": upload_id, "PartNumber": 1, "Body": b"data"}
    refused("BadDigest", s3.upload_part, ChecksumSHA256=sha256(b"other"), **one)
    assert "Parts" not in s3.list_parts(Bucket="bucket", Key="bad", UploadId=upload_id)

    s3.upload_fileobj(__import__("io").BytesIO(whole * 2), "bucket", "managed")
    assert get("managed")["Body"].read() == whole * 2


def open_uploads():
    ids = {}
    for key in ["a/1", "a/2", "b/ü +"]:
        ids[key] = s3.create_multipart_upload(Bucket="bucket", Key=key)["UploadId"]
    listed = s3.list_multipart_uploads(Bucket="bucket")["Uploads"]
    assert [(u["Key"], u["UploadId"]) for u in listed] == sorted(ids.items())
    listed = s3.list_multipart_uploads(Bucket="bucket", Prefix="a/")["Uploads"]
    assert [u["Key"] for u in listed] == ["a/1", "a/2"]
    pages = list(s3.get_paginator("list_multipart_uploads").paginate(Bucket="bucket", PaginationConfig={"PageSize": 1}))
    assert [u["Key"] for p in pages for u in p["Uploads"]] == sorted(ids)
    for key, upload_id in ids.items():
        s3.upload_part(Bucket="bucket", Key=key, UploadId=upload_id, PartNumber=1, Body=b"x")
        s3.abort_multipart_upload(Bucket="bucket", Key=key, UploadId=upload_id)
        refused("NoSuchUpload", s3.abort_multipart_upload, Bucket="bucket", Key=key, UploadId=upload_id)
        refused("NoSuchUpload", s3.upload_part, Bucket="bucket", Key=key, UploadId=upload_id, PartNumber=1, Body=b"x")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")
    refused("NoSuchUpload", s3.abort_multipart_upload, Bucket="bucket", Key="a/1", UploadId="nonsense")


def refused_bodies():
    """A body that was refused unread must not cost the next request its connection."""
    gone = dict(Bucket="bucket", Key="gone", UploadId="nonsense", PartNumber=1)
    for size in [1, 1000, 200_000] * 30:
        refused("NoSuchUpload", s3.upload_part, Body=b"x" * size, **gone)
        put("next", b"x" * size)


def refused_credentials():
    assert refused("InvalidAccessKeyId", client(access_key="other").list_buckets) == 403
    wrong = client(secret_key="other")
    assert refused("SignatureDoesNotMatch", wrong.list_buckets) == 403
    assert refused("SignatureDoesNotMatch", wrong.put_object, Bucket="bucket", Key="x", Body=b"x") == 403
    try:
        urllib.request.urlopen(os.environ["S3_ENDPOINT_URL"] + "/bucket/x")
        raise AssertionError("anonymous")
    except urllib.error.HTTPError as error:
        assert error.code == 403
    put("x y", b"signed")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "x y"})
    assert urllib.request.urlopen(url).read() == b"signed"



def copies_and_deletes():
    put("from", b"data", Metadata={"k": "v"}, ContentType="text/one")
    s3.copy_object(Bucket="bucket", Key="to", CopySource={"Bucket": "bucket", "Key": "from"})
    assert get("to")["Body"].read() == b"data" and get("to")["Metadata"] == {"k": "v"}
    s3.copy_object(
        Bucket="bucket", Key="from", CopySource="bucket/from", Metadata={"n": "m"}, MetadataDirective="REPLACE"
    )
    assert get("from")["Body"].read() == b"data" and get("from")["Metadata"] == {"n": "m"}
    # A key whose folder is an object, and the other way round.
    put("f/x", b"1"), put("f", b"2"), put("f/x/y", b"3")
    assert [get(key)["Body"].read() for key in ["f/x", "f", "f/x/y"]] == [b"1", b"2", b"3"]
    put("f", b"4"), s3.delete_object(Bucket="bucket", Key="f/x")
    put("f/x", b"5")
    assert [get(key)["Body"].read() for key in ["f/x", "f", "f/x/y"]] == [b"5", b"4", b"3"]
    s3.delete_object(Bucket="bucket", Key="never there")
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket="bucket")["Contents"]] + ["never there"]
    gone = s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": key} for key in keys]})
    assert len(gone["Deleted"]) == len(keys) and "Errors" not in gone
    assert s3.list_objects_v2(Bucket="bucket")["KeyCount"] == 0


def before_restart():
    put("kept/file.txt", b"kept", Metadata={"k": "v"})
    put("kept", b"beside")
    put("gone", b"gone")
    s3.delete_object(Bucket="bucket", Key="gone")
    upload("open", PARTS)


def after_restart():
    assert get("kept/file.txt")["Metadata"] == {"k": "v"} and get("kept")["Body"].read() == b"beside"
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["kept", "kept/file.txt"]
    upload_id = s3.list_multipart_uploads(Bucket="bucket")["Uploads"][0]["UploadId"]
    parts = s3.list_parts(Bucket="bucket", Key="open", UploadId=upload_id)["Parts"]
    named = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    s3.complete_multipart_upload(Bucket="bucket", Key="open", UploadId=upload_id, MultipartUpload={"Parts": named})
    assert get("open")["Body"].read() == b"".join(PARTS)


globals()[sys.argv[1]]()
