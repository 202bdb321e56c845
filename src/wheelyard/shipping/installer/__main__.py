"""Install a bundle of wheels without network: `python install.py BUNDLE --into ENV`."""

# nothing here that an old Python cannot read: it is to say that it is too old
import sys

if sys.version_info < (3, 9):  # noqa: UP036
    sys.stderr.write(
        "install.py needs Python 3.9 or later, and this is %d.%d. Run it with a newer one, for "  # noqa: UP031
        "example python3.12 install.py\n" % sys.version_info[:2]
    )
    raise SystemExit(6)

from wheelyard.shipping.installer.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
