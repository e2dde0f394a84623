"""What the operating system says when a disk has no space left."""

import errno

#: No space, no quota, or larger than a file of this process may be.
DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
