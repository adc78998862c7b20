"""Takes a target of a repository as any client of TUF does: URL ROOT TARGET FOLDER."""
import sys
from pathlib import Path

from tuf.ngclient import Updater

url, root, target, folder = sys.argv[1:]
updater = Updater(
    metadata_dir=folder + "/metadata",
    metadata_base_url=url + "/metadata/",
    target_dir=folder,
    target_base_url=url + "/targets/",
    bootstrap=Path(root).read_bytes(),
)
updater.refresh()
info = updater.get_targetinfo(target)
if info is None:
    sys.exit(target + " is not listed")
print(updater.download_target(info, folder + "/target"))
