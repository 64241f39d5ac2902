"""What uploaders ask of the sink, by boto3."""

import os

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

s3 = boto3.client(
    "s3",
    endpoint_url=os.environ["S3_ENDPOINT_URL"],
    region_name="us-east-1",
    aws_access_key_id="any",
    aws_secret_access_key="any",
    config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
)

s3.head_bucket(Bucket="bucket")
assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] in (None, "us-east-1")

# "123456789", whose CRC-64/NVME is known.
put = s3.put_object(Bucket="bucket", Key="a/one & <two>", Body=b"123456789", ChecksumAlgorithm="CRC64NVME")
assert put["ChecksumCRC64NVME"] == "rosUhgp5mIg=", put
head = s3.head_object(Bucket="bucket", Key="a/one & <two>", ChecksumMode="ENABLED")
assert head["ContentLength"] == 9 and head["ChecksumCRC64NVME"] == "rosUhgp5mIg=", head
for algorithm in ("CRC32", "CRC32C", "SHA1", "SHA256"):
    s3.put_object(Bucket="bucket", Key=f"b/{algorithm}", Body=b"x", ChecksumAlgorithm=algorithm)

# Both ways to say what the checksum of the whole is made of.
for algorithm, kind in (("CRC64NVME", "FULL_OBJECT"), ("CRC32", "COMPOSITE"), ("CRC32C", "FULL_OBJECT")):
    upload = s3.create_multipart_upload(
        Bucket="bucket", Key="large", ChecksumAlgorithm=algorithm, ChecksumType=kind
    )["UploadId"]
    sums = []
    for number, body in ((1, b"1234"), (2, b"56789")):
        part = s3.upload_part(
            Bucket="bucket", Key="large", UploadId=upload, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm
        )
        field = f"Checksum{algorithm}"
        sums.append({"PartNumber": number, "ETag": part["ETag"], field: part[field]})
    listed = s3.list_parts(Bucket="bucket", Key="large", UploadId=upload)["Parts"]
    assert [part["Size"] for part in listed] == [4, 5], listed
    page = s3.list_parts(Bucket="bucket", Key="large", UploadId=upload, MaxParts=1)
    assert page["IsTruncated"] and page["NextPartNumberMarker"] == 1, page
    open_uploads = s3.list_multipart_uploads(Bucket="bucket", Prefix="lar")["Uploads"]
    assert [open_upload["UploadId"] for open_upload in open_uploads] == [upload], open_uploads
    done = s3.complete_multipart_upload(
        Bucket="bucket", Key="large", UploadId=upload, MultipartUpload={"Parts": sums}, ChecksumType=kind
    )
    assert done["ChecksumType"] == kind, done
    if algorithm == "CRC64NVME":
        assert done["ChecksumCRC64NVME"] == "rosUhgp5mIg=", done
    assert s3.head_object(Bucket="bucket", Key="large")["ContentLength"] == 9
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="bucket")

aborted = s3.create_multipart_upload(Bucket="bucket", Key="never")["UploadId"]
s3.abort_multipart_upload(Bucket="bucket", Key="never", UploadId=aborted)
try:
    s3.list_parts(Bucket="bucket", Key="never", UploadId=aborted)
    raise AssertionError("the upload is still there")
except ClientError as error:
    assert error.response["Error"]["Code"] == "NoSuchUpload", error

keys = ["a/one & <two>", "b/CRC32", "b/CRC32C", "b/SHA1", "b/SHA256", "large"]
assert [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]] == keys
pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", PaginationConfig={"PageSize": 2})
assert [item["Key"] for page in pages for item in page["Contents"]] == keys
pages = s3.get_paginator("list_objects").paginate(Bucket="bucket", Prefix="b/", PaginationConfig={"PageSize": 3})
assert [item["Key"] for page in pages for item in page["Contents"]] == keys[1:5]
folders = s3.list_objects_v2(Bucket="bucket", Delimiter="/")
assert [folder["Prefix"] for folder in folders["CommonPrefixes"]] == ["a/", "b/"], folders
assert [item["Key"] for item in folders["Contents"]] == ["large"], folders

s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "large"}, {"Key": "b/SHA1"}]})
s3.delete_object(Bucket="bucket", Key="b/CRC32")
assert s3.list_objects_v2(Bucket="bucket", Prefix="b/")["KeyCount"] == 2
