//! Where things lie: built servers by version in the user's cache folder, and the state of runs beside them.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The Kubernetes that is built: the newest 1.34 that Go's checksum database knows.
pub const KUBERNETES_VERSION: &str = "1.34.10";
/// The etcd that is built (Debian's 3.4 starts, but its streaming watches fail).
pub const ETCD_VERSION: &str = "3.6.16";
/// The Apache Kafka whose jars are fetched.
pub const KAFKA_VERSION: &str = "4.3.1";

/// Names the file that marks a folder as completely built, and from what.
const RECIPE: &str = "RECIPE";

/// The folders that the stack lives in.
#[derive(Clone, Debug)]
pub struct Paths {
    cache: PathBuf,
}

impl Paths {
    /// `$XDG_CACHE_HOME/recommendation-stack`, or `~/.cache/recommendation-stack`.
    ///
    /// # Errors
    /// When neither variable is set, or the folder cannot be made.
    pub fn from_env() -> Result<Self> {
        let cache = resolve(std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))?;
        fs::create_dir_all(&cache).with_context(|| format!("making the cache folder {}", cache.display()))?;
        Ok(Self { cache })
    }

    /// A cache folder of a test.
    #[cfg(test)]
    pub(crate) fn below(dir: &Path) -> Self {
        Self {
            cache: dir.to_owned(),
        }
    }

    /// The folder itself.
    #[must_use]
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// One Kubernetes program: `kubectl`, `kube-apiserver`, `kubelet`, ….
    #[must_use]
    pub fn kubernetes(&self, program: &str) -> PathBuf {
        self.kubernetes_dir().join("bin").join(program)
    }

    /// The folder of the built Kubernetes.
    #[must_use]
    pub fn kubernetes_dir(&self) -> PathBuf {
        self.cache.join(format!("kubernetes-{KUBERNETES_VERSION}"))
    }

    /// The folder of the built etcd.
    #[must_use]
    pub fn etcd_dir(&self) -> PathBuf {
        self.cache.join(format!("etcd-{ETCD_VERSION}"))
    }

    /// The folder of Kafka's jars.
    #[must_use]
    pub fn kafka_dir(&self) -> PathBuf {
        self.cache.join(format!("kafka-{KAFKA_VERSION}"))
    }

    /// The folder of the pause image.
    #[must_use]
    pub fn pause_dir(&self) -> PathBuf {
        self.cache.join("pause-1")
    }

    /// The folder of another project's tool, by version.
    #[must_use]
    pub fn tool_dir(&self, name: &str, version: &str) -> PathBuf {
        self.cache.join("tools").join(format!("{name}-{version}"))
    }

    /// Waits for, and takes, the lock of one tool: who builds a tool for minutes must not keep others from a stack.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock_tool(&self, name: &str) -> Result<Lock> {
        let tools = self.cache.join("tools");
        fs::create_dir_all(&tools).with_context(|| format!("making {}", tools.display()))?;
        Lock::take(
            &tools.join(format!("{name}.lock")),
            &format!("another xtask is building {name}; waiting for it"),
        )
    }

    /// The folder that holds one folder for each run.
    #[must_use]
    pub fn runs_dir(&self) -> PathBuf {
        self.cache.join("run")
    }

    /// Waits for, and takes, the lock that keeps two builds from colliding.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn lock(&self) -> Result<Lock> {
        Lock::take(
            &self.cache.join("lock"),
            "another xtask is building; waiting for it",
        )
    }
}

fn resolve(xdg: Option<OsString>, home: Option<OsString>) -> Result<PathBuf> {
    // The XDG specification: a relative path there is to be ignored.
    let base = match (xdg.map(PathBuf::from).filter(|dir| dir.is_absolute()), home) {
        (Some(dir), _) => dir,
        (None, Some(home)) if !home.is_empty() => PathBuf::from(home).join(".cache"),
        _ => bail!("neither XDG_CACHE_HOME nor HOME is set: there is no place to keep built servers"),
    };
    Ok(base.join("recommendation-stack"))
}

/// A file lock, given back when dropped (and by the kernel when the process ends, however it ends).
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock on `path`, saying `waiting` once when somebody else holds it.
    ///
    /// # Errors
    /// When the file cannot be made or locked.
    pub fn take(path: &Path, waiting: &str) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("making the lock file {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("{waiting} ({})", path.display());
                file.lock()
                    .with_context(|| format!("locking {}", path.display()))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        Ok(Self { _file: file })
    }
}

/// Whether `target` was completely built from exactly this recipe.
#[must_use]
pub fn is_built(target: &Path, recipe: &str) -> bool {
    fs::read_to_string(target.join(RECIPE)).is_ok_and(|built_from| built_from == recipe)
}

/// Marks a folder as completely built: for what cannot be built elsewhere and moved, as [`install`] does.
///
/// # Errors
/// When it cannot be written.
pub fn mark_built(target: &Path, recipe: &str) -> Result<()> {
    write(&target.join(RECIPE), recipe)
}

/// Fills `target` with what `build` makes in an empty folder beside it, unless it is there already. A build that
/// fails or is interrupted leaves nothing that could be taken for a finished one. Hold [`Paths::lock`].
///
/// # Errors
/// What `build` returns, or a failure to write.
pub fn install(target: &Path, recipe: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if is_built(target, recipe) {
        return Ok(());
    }
    let name = target
        .file_name()
        .context("a build folder has a name")?
        .to_string_lossy()
        .into_owned();
    let partial = target.with_file_name(format!(".{name}.partial"));
    remove_all(&partial)?;
    fs::create_dir_all(&partial).with_context(|| format!("making {}", partial.display()))?;
    build(&partial)?;
    mark_built(&partial, recipe)?;
    remove_all(target)?;
    fs::rename(&partial, target).with_context(|| format!("moving the finished build to {}", target.display()))
}

/// Removes a folder and all in it; one that does not exist is fine.
///
/// # Errors
/// When something in it cannot be removed.
pub fn remove_all(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file so that a reader sees the old content or the new, never a part.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, content: &str) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let attempt = || -> std::io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create(&temporary)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    attempt().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_xdg_says_else_in_the_home_folder() {
        let xdg = resolve(Some("/x".into()), Some("/home/a".into())).expect("set");
        assert_eq!(xdg, Path::new("/x/recommendation-stack"));
        let home = resolve(None, Some("/home/a".into())).expect("set");
        assert_eq!(home, Path::new("/home/a/.cache/recommendation-stack"));
        let relative = resolve(Some("x".into()), Some("/home/a".into())).expect("set");
        assert_eq!(relative, home);
        assert!(resolve(None, None).is_err());
    }

    #[test]
    fn a_failed_build_is_not_taken_as_built() {
        let dir = tempfile::tempdir().expect("temp dir");
        let target = dir.path().join("thing-1");
        let failed = install(&target, "recipe", |partial| {
            fs::write(partial.join("half"), "x")?;
            bail!("the compiler died")
        });
        assert!(failed.is_err());
        assert!(!target.exists() && !is_built(&target, "recipe"));
        install(&target, "recipe", |partial| {
            Ok(fs::write(partial.join("whole"), "x")?)
        })
        .expect("builds");
        assert!(target.join("whole").exists() && !target.join("half").exists());
    }

    #[test]
    fn a_build_is_repeated_only_when_its_recipe_changes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let target = dir.path().join("thing-1");
        let mut builds = 0;
        for recipe in ["a", "a", "b"] {
            install(&target, recipe, |_| {
                builds += 1;
                Ok(())
            })
            .expect("builds");
        }
        assert_eq!(builds, 2);
    }

    #[test]
    fn a_lock_is_free_again_once_dropped() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("lock");
        drop(Lock::take(&path, "waiting").expect("free"));
        drop(Lock::take(&path, "waiting").expect("free again"));
    }
}
