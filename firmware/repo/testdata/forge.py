"""Changes a document and signs it with some keys: IN OUT WHAT KEY..."""
import datetime
import sys

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile

source, out, what = sys.argv[1:4]
md = Metadata.from_file(source)
signed = md.signed
signed.version += 1
if what == "later":
    signed.expires += datetime.timedelta(days=1)
elif what == "steal":
    target = TargetFile.from_data("release/9.9.9/amd64.json", b"stolen")
    signed.targets[target.path] = target
elif what == "backwards":
    signed.version -= 2
elif what == "snapshot":
    signed.snapshot_meta.version += 1

md.signatures.clear()
for file in sys.argv[4:]:
    with open(file, "rb") as f:
        private = load_pem_private_key(f.read(), None)
    md.sign(CryptoSigner(private), append=True)
md.to_file(out)
