//! Files that are whole or not there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile, TempDir};

/// Write `path` so that whoever reads it finds the old content or the new one, never a part of
/// either.
///
/// `content` writes to a temporary file in the same folder, which is synced and then renamed; if
/// anything fails, or the process dies, `path` is as it was before. The folder is made if it is not
/// there.
///
/// # Errors
///
/// What the system or `content` says; the temporary file is removed.
pub fn write(
    path: &Path,
    content: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> io::Result<()> {
    let folder = folder_of(path);
    fs::create_dir_all(folder)?;
    let mut file = temporary_file(folder)?;
    let mut writer = BufWriter::new(file.as_file_mut());
    content(&mut writer)?;
    writer.flush()?;
    drop(writer);
    file.as_file().sync_all()?;
    file.persist(path).map_err(|err| err.error)?;
    sync_folder(folder)
}

/// Find out whether files can be written to `folder`, before hours are spent on what should go
/// there.
///
/// The folder is made if it is not there; nothing else is left behind.
///
/// # Errors
///
/// What the system says.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = temporary_file(folder)?;
    file.write_all(b"can this folder be written to?")?;
    file.as_file().sync_all()
}

/// The folder that `path` is in; `Path::parent` is empty for a bare file name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_file(folder: &Path) -> io::Result<NamedTempFile> {
    builder(0o666).prefix(".").suffix(".part").tempfile_in(folder)
}

/// A folder in `folder` whose name begins with `prefix`, for what gets its own name when it is
/// whole.
pub(crate) fn temporary_folder(folder: &Path, prefix: &str) -> io::Result<TempDir> {
    builder(0o777).prefix(prefix).tempdir_in(folder)
}

/// What is temporary is for its owner only; here it is to become an ordinary file or folder, with
/// the permissions `mode` within the umask. Where there are none, the folder around it decides.
#[cfg_attr(not(unix), allow(unused_variables))]
fn builder<'a>(mode: u32) -> Builder<'a, 'a> {
    let mut builder = Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
    builder
}

/// Make the content of a file last.
pub(crate) fn sync_file(path: &Path) -> io::Result<()> {
    // Windows syncs only what is open for writing.
    File::options().write(true).open(path)?.sync_all()
}

/// Make a rename in `folder` last; only Unix has a call for it.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_made_with_its_folder_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/deep/file.txt");
        write(&path, |file| file.write_all(b"one, and longer")).unwrap();
        write(&path, |file| file.write_all(b"two")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(names(path.parent().unwrap()), ["file.txt"]);
    }

    #[test]
    fn a_failure_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.txt");
        fs::write(&path, "old").unwrap();
        let failure = write(&path, |file| {
            file.write_all(b"new")?;
            Err(io::Error::other("the disk is full"))
        });
        assert!(failure.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(folder.path()), ["file.txt"]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_not_writable() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(&folder.path().join("new")).unwrap();
        assert!(names(&folder.path().join("new")).is_empty());

        let file = folder.path().join("file");
        fs::write(&file, "in the way").unwrap();
        assert!(check_writable(&file.join("below")).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "in the way");
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_the_umask_lets_them() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let [ours, plain, plain_folder] =
            ["ours", "plain", "folder"].map(|name| folder.path().join(name));
        write(&ours, |file| file.write_all(b"1")).unwrap();
        fs::write(&plain, "1").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(&plain));

        fs::create_dir(&plain_folder).unwrap();
        let our_folder = temporary_folder(folder.path(), ".").unwrap();
        assert_eq!(mode(our_folder.path()), mode(&plain_folder));
    }
}
