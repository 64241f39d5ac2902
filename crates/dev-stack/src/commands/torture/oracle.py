"""Says what is wrong after a round: the source as it lies on disk, the rows as the superuser sees them, and the bucket
as boto3 sees it, compared by rules of its own. Reads a question from stdin, writes its verdict to stdout."""

import hashlib
import json
import os
import re
import stat
import sys
import unicodedata
from urllib.parse import urlsplit

import boto3
import pg8000.native
from botocore.config import Config

CHUNK = 4 << 20
# Of the objects that went in one request so many are read; the others are judged by the MD5 that the listing gives.
READ_EVERY = 50
# Written at the end of each session, beside what it delivered.
RECEIPT = re.compile(r"(^|.*/)\.receipts/[0-9a-f-]{36}\.json")
ENDED = ("completed", "completed_with_errors", "failed", "cancelled")


def text_of(path):
    """The path as keys and rows have it: as it is, or with what is no clean text as %XX."""
    text = path.decode("utf-8", "surrogateescape")

    def is_control(character):
        return unicodedata.category(character) == "Cc"

    def is_invalid(character):
        return 0xDC80 <= ord(character) <= 0xDCFF

    if not any(is_control(character) or is_invalid(character) for character in text):
        return text
    out = []
    for character in text:
        if is_invalid(character):
            out.append(f"%{ord(character) - 0xDC00:02X}")
        elif character == "%" or is_control(character):
            out.append("".join(f"%{byte:02X}" for byte in character.encode()))
        else:
            out.append(character)
    return "".join(out)


def walk(root):
    """Regular files and links below a folder: text of the path to (path, is it a regular file)."""
    found = {}
    root = os.fsencode(root)
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            found[text_of(os.path.relpath(path, root))] = (path, stat.S_ISREG(os.lstat(path).st_mode))
    return found


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(kind, chunks):
    sum_ = hashlib.new(kind)
    for chunk in chunks:
        sum_.update(chunk)
    return sum_.hexdigest()


def chunks_of(path):
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


class Round:
    def __init__(self, question):
        address = urlsplit(question["database_url"])
        self.database = pg8000.native.Connection(
            address.username,
            host=address.hostname,
            port=address.port,
            password=address.password,
            database=address.path.lstrip("/"),
        )
        self.s3 = boto3.client(
            "s3",
            endpoint_url=question["endpoint_url"],
            aws_access_key_id=question["access_key_id"],
            aws_secret_access_key=question["secret_access_key"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}),
        )
        self.question = question
        self.violations = []
        self.files = self.objects = self.object_bytes = 0
        self.session = None

    def wrong(self, kind, detail):
        self.violations.append({"session": self.session["id"], "kind": kind, "detail": detail})

    def one(self, sql):
        """The only row of a question about the session, as a dictionary."""
        rows = self.database.run(sql, id=self.session["id"])
        names = [column["name"] for column in self.database.columns]
        return dict(zip(names, rows[0])) if rows else None

    def judge(self, session):
        self.session = session
        row = self.one("SELECT * FROM sync_sessions WHERE id = :id")
        if row is None:
            return self.wrong("lost", "the session itself has no row")
        if row["key_prefix"] != session["prefix"]:
            self.wrong("wrong_status", f"writes below {row['key_prefix']!r} and not {session['prefix']!r}")
        if row["status"] not in ENDED:
            self.wrong("stuck", f"is {row['status']}, its flag {row['stop_flag']}, {row['open_jobs']} jobs open")
        elif row["status"] not in session["expected"]:
            self.wrong("wrong_status", f"is {row['status']} ({row['error_code']}), not {session['expected']}")
        files = self.rows()
        objects = self.listing(session)
        source = walk(session["dir"])
        self.files += sum(len(rows) for rows in files.values())
        self.objects += len(objects)
        self.object_bytes += sum(item["Size"] for item in objects.values())
        # Somebody may have worked on the source: any version that a file ever had is right, and a removed file may
        # have been seen or not.
        self.versions, self.removed = session["edits"]["versions"], set(session["edits"]["removed"])
        self.judge_rows(row["status"], source, files)
        self.judge_objects(row["status"], source, files, objects)
        self.judge_receipt(row, files)
        self.judge_counters(row)
        self.judge_jobs()
        self.judge_uploads(session)

    def rows(self):
        sql = "SELECT path, number, status, size_bytes, etag, error_code FROM file_uploads WHERE session_id = :id"
        files = {}
        for path, number, status, size_bytes, etag, error_code in self.database.run(sql, id=self.session["id"]):
            row = {"number": number, "status": status, "size_bytes": size_bytes, "etag": etag, "error": error_code}
            files.setdefault(path, []).append(row)
        return files

    def listing(self, session, all_of_them=False):
        objects = {}
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=session["bucket"], Prefix=session["prefix"])
        for page in pages:
            for item in page.get("Contents", []):
                if all_of_them or not RECEIPT.fullmatch(item["Key"]):
                    objects[item["Key"][len(session["prefix"]):]] = item
        return objects

    def judge_rows(self, status, source, files):
        for text, rows in files.items():
            if len(rows) > 1:
                self.wrong("duplicated", f"{text!r} is recorded {len(rows)} times")
            if text not in source and text not in self.removed:
                self.wrong("duplicated", f"{text!r} is recorded and not in the source")
            for row in rows:
                if row["status"] in ("pending", "uploading"):
                    kind = "stuck" if status in ENDED else "wrong_status"
                    self.wrong(kind, f"{text!r} is {row['status']} in a session that is {status}")
            if text in self.removed and status == "completed_with_errors":
                for row in rows:
                    if row["status"] != "uploaded" and row["error"] != "file_vanished":
                        self.wrong("wrong_status", f"{text!r} was removed, and is {row['status']} ({row['error']})")
        if status not in ("completed", "completed_with_errors"):
            return
        for text, (_, is_regular) in source.items():
            rows = files.get(text, [])
            if not rows:
                self.wrong("lost", f"{text!r} has no row")
            wanted = "uploaded" if is_regular else "skipped"
            for row in rows:
                if row["status"] != wanted:
                    self.wrong("wrong_status", f"{text!r} is {row['status']} ({row['error']}), not {wanted}")

    def judge_objects(self, status, source, files, objects):
        for text in objects:
            if text not in self.removed and (text not in source or not source[text][1]):
                self.wrong("duplicated", f"the object {text!r} is in no source")
            elif text not in files:
                self.wrong("lost", f"the object {text!r} has no row")
        uploaded = {text: row for text, rows in files.items() for row in rows if row["status"] == "uploaded"}
        is_complete = status in ("completed", "completed_with_errors")
        complete = {text for text, (_, is_regular) in source.items() if is_regular and is_complete}
        for index, text in enumerate(sorted(complete | uploaded.keys() | objects.keys())):
            if text not in objects:
                self.wrong("lost", f"{text!r} is not in the bucket")
                continue
            if text in self.versions:
                self.compare_versions(text, objects[text])
            elif text in source:
                self.compare(index, text, source[text][0], objects[text])
            row = uploaded.get(text)
            if row and row["size_bytes"] != objects[text]["Size"]:
                self.wrong("wrong_status", f"{text!r} is recorded with {row['size_bytes']} bytes")
            if row and (row["etag"] or "").strip('"') != objects[text]["ETag"].strip('"'):
                self.wrong("wrong_status", f"{text!r} is recorded as {row['etag']}, and is {objects[text]['ETag']}")

    def compare_versions(self, text, item):
        if self.digest_of_object(text) not in self.versions[text]:
            self.wrong("lost", f"{text!r} with {item['Size']} bytes is no version that its file ever had")

    def digest_of_object(self, text):
        key = self.session["prefix"] + text
        body = self.s3.get_object(Bucket=self.session["bucket"], Key=key)["Body"]
        return digest("sha256", body.iter_chunks(CHUNK))

    def compare(self, index, text, path, item):
        if os.path.getsize(path) != item["Size"]:
            return self.wrong("lost", f"{text!r} has {item['Size']} bytes, and the file {os.path.getsize(path)}")
        etag = item["ETag"].strip('"')
        # The ETag of what was sent in parts is no MD5 of the bytes.
        if "-" in etag or index % READ_EVERY == 0:
            same = self.digest_of_object(text) == digest("sha256", chunks_of(path))
        else:
            same = etag == digest("md5", chunks_of(path))
        if not same:
            self.wrong("lost", f"{text!r} has other bytes than its file")

    def judge_receipt(self, row, files):
        """What came to its end has its receipt, whose root hash is that of the rows; other sessions have none."""
        settings = row["settings"] if isinstance(row["settings"], dict) else json.loads(row["settings"])
        target = settings.get("target_prefix", "")
        prefix = row["key_prefix"][: len(row["key_prefix"]) - len(target)]
        key = f"{prefix}.receipts/{row['id']}.json"
        try:
            receipt = json.loads(self.s3.get_object(Bucket=self.session["bucket"], Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            receipt = None
        is_due = row["status"] in ("completed", "completed_with_errors") and not settings.get("dry_run", False)
        # A store that is away may keep one that does not hold any more; the session says so.
        if "does not hold any more" in (row["error_detail"] or ""):
            return
        if not is_due:
            if receipt is not None:
                self.wrong("wrong_status", f"there is a receipt of a session that is {row['status']}")
            return
        if receipt is None:
            if row["error_code"] != "receipt_missing":
                self.wrong("lost", f"the receipt {key!r} is not in the bucket")
            return
        if (receipt["session"]["run"], receipt["session"]["status"]) != (row["run"], row["status"]):
            self.wrong("wrong_status", f"the receipt is of run {receipt['session']}")
        hash_ = hashlib.sha256(b"data-uploader receipt v1 files\n")
        for file in receipt["files"]:
            hash_.update(canonical(file) + b"\n")
        if receipt["root"] != "sha256:" + hash_.hexdigest():
            self.wrong("wrong_status", "the root hash in the receipt is not that of its files")
        stated = [(file["number"], file["key"], file["status"], file["size_bytes"]) for file in receipt["files"]]
        recorded = sorted(
            (file["number"], row["key_prefix"] + text, file["status"], file["size_bytes"])
            for text, rows in files.items()
            for file in rows
        )
        if stated != recorded:
            self.wrong("wrong_status", f"the receipt states {len(stated)} files, other ones than the {len(recorded)} rows")

    def judge_counters(self, row):
        sums = self.one(
            """SELECT count(*) AS files_total, coalesce(sum(size_bytes), 0)::bigint AS bytes_total,
                      count(*) FILTER (WHERE status = 'uploaded') AS files_uploaded,
                      count(*) FILTER (WHERE status = 'skipped') AS files_skipped,
                      count(*) FILTER (WHERE status = 'failed') AS files_failed,
                      count(*) FILTER (WHERE status = 'cancelled') AS files_cancelled,
                      coalesce(sum(size_bytes) FILTER (WHERE status = 'uploaded'), 0)::bigint AS bytes_uploaded,
                      coalesce(sum(size_bytes) FILTER (WHERE status = 'skipped'), 0)::bigint AS bytes_skipped,
                      coalesce(sum(size_bytes) FILTER (WHERE status = 'failed'), 0)::bigint AS bytes_failed
               FROM file_uploads WHERE session_id = :id"""
        )
        for name, count in sums.items():
            if row[name] != count:
                self.wrong("counter", f"{name} is {row[name]}, and there are {count}")
        if row["open_jobs"] != 0:
            self.wrong("counter", f"open_jobs is {row['open_jobs']}")

    def judge_jobs(self):
        # A job that was given up, its workers killed again and again, fails its run; the next run is what counts.
        sql = """SELECT j.id, j.kind, j.state, j.epoch, j.first_number, j.last_number
                 FROM jobs j JOIN sync_sessions s ON s.id = j.session_id
                 WHERE s.id = :id AND j.state NOT IN ('done', 'cancelled') AND (j.state <> 'dead' OR j.run = s.run)"""
        for id_, kind, state, epoch, first, last in self.database.run(sql, id=self.session["id"]):
            kind_of_wrong = "wrong_status" if state == "dead" else "stuck"
            self.wrong(kind_of_wrong, f"job {id_} ({kind} of {first}..{last}, epoch {epoch}) is {state}")

    def judge_uploads(self, session):
        pages = self.s3.get_paginator("list_multipart_uploads").paginate(
            Bucket=session["bucket"], Prefix=session["prefix"]
        )
        for page in pages:
            for upload in page.get("Uploads", []):
                self.wrong("multipart_left", f"{upload['Key']!r} has the open upload {upload['UploadId']}")

    def clear(self):
        """Removes what was found good, so that a long run does not fill the disk."""
        for session in self.question["sessions"]:
            keys = [item["Key"] for item in self.listing(session, all_of_them=True).values()]
            for first in range(0, len(keys), 1000):
                batch = [{"Key": key} for key in keys[first : first + 1000]]
                self.s3.delete_objects(Bucket=session["bucket"], Delete={"Objects": batch, "Quiet": True})


def main():
    question = json.load(sys.stdin)
    round_ = Round(question)
    for session in question["sessions"]:
        round_.judge(session)
    if question["clear"] and not round_.violations:
        round_.clear()
    json.dump(
        {
            "violations": round_.violations,
            "files": round_.files,
            "objects": round_.objects,
            "object_bytes": round_.object_bytes,
        },
        sys.stdout,
    )


main()
