"""Spoils what two sessions have delivered, in each way that the oracle must see. Reads a question from stdin."""

import json
import sys
from urllib.parse import urlsplit

import boto3
import pg8000.native
from botocore.config import Config

question = json.load(sys.stdin)
first, second = (session for session in question["sessions"][:2])
address = urlsplit(question["database_url"])
database = pg8000.native.Connection(
    address.username,
    host=address.hostname,
    port=address.port,
    password=address.password,
    database=address.path.lstrip("/"),
)
s3 = boto3.client(
    "s3",
    endpoint_url=question["endpoint_url"],
    aws_access_key_id=question["access_key_id"],
    aws_secret_access_key=question["secret_access_key"],
    region_name="us-east-1",
    config=Config(s3={"addressing_style": "path"}),
)
bucket, prefix = first["bucket"], first["prefix"]

# lost: an object that is gone, one with other bytes of the same length, a file without its row.
s3.delete_object(Bucket=bucket, Key=f"{prefix}000/00001.dat")
size_bytes = s3.head_object(Bucket=bucket, Key=f"{prefix}large-0.bin")["ContentLength"]
s3.put_object(Bucket=bucket, Key=f"{prefix}large-0.bin", Body=b"x" * size_bytes)
database.run("DELETE FROM file_uploads WHERE session_id = :id AND path = '000/00002.dat'", id=first["id"])
# lost: a receipt.
s3.delete_object(Bucket=second["bucket"], Key=f"{second['prefix']}.receipts/{second['id']}.json")
# duplicated: an object that nobody asked for.
s3.put_object(Bucket=bucket, Key=f"{prefix}000/00003.dat.copy", Body=b"copy")
# wrong_status: a file that failed in a session that says it is complete.
database.run(
    "UPDATE file_uploads SET status = 'failed', error_code = 'timeout' WHERE session_id = :id AND path = '000/00004.dat'",
    id=first["id"],
)
# stuck: a job that nobody takes. One that is due would be taken, and `finish` would put the rest in order.
database.run(
    """UPDATE jobs SET state = 'ready', finished_at = NULL, run_after = 'infinity'
       WHERE session_id = :id AND kind = 'finish'""",
    id=second["id"],
)
# counter.
database.run("UPDATE sync_sessions SET files_uploaded = files_uploaded + 1 WHERE id = :id", id=second["id"])
# multipart_left.
s3.create_multipart_upload(Bucket=second["bucket"], Key=f"{second['prefix']}large-0.bin")
