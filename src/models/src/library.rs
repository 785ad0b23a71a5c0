//! The models' folder as something that can be changed.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

use async_stream::try_stream;
use futures_util::StreamExt;
use rkllama_core::{
    Creation, Digest, Model, ModelError, ModelStore, Models, Pull, Step, Steps, StoreError,
    Storing, Upload,
};
use rkllama_hub::{Hub, HubConfig};
use tokio::{sync, task::spawn_blocking};

use crate::{
    blobs::Blobs,
    catalog::Catalog,
    draft::{clean_up, disk},
    folder::Folder,
    lock,
    make::{self, TemplateCheck},
    pull::{self, Plan},
    store::Store,
    transfer::Transfer,
};

/// Where models come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The chip that they are to run on, such as `rk3588`; without one every file fits.
    pub chip: Option<String>,
    /// The hub.
    pub hub: HubConfig,
    /// Short names.
    pub catalog: Catalog,
}

impl Sources {
    /// A name that can be pulled here, for those who have none in mind.
    pub fn suggestion(&self) -> String {
        let names = self.catalog.names(self.chip.as_deref());
        names.into_iter().nth(1).unwrap_or_else(|| "ORGANISATION/REPOSITORY".to_owned())
    }
}

/// Makes, fetches and removes models.
#[derive(Clone)]
pub struct Library {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    blobs: Blobs,
    sources: Sources,
    check_template: TemplateCheck,
    hub: Hub,
    /// One change of the folder at a time.
    changes: sync::Mutex<()>,
    /// What is on its way, by where it is kept until it is whole.
    transfers: Mutex<HashMap<PathBuf, Weak<Transfer>>>,
}

impl Library {
    /// A library over a store. What an earlier server left unfinished is removed, but for downloads,
    /// which go on when they are asked for again. `check_template` is asked about what Modelfiles in
    /// requests say, before anything is written.
    pub fn new(store: Arc<Store>, sources: Sources, check_template: TemplateCheck) -> Self {
        let blobs = Blobs::below(store.root());
        clean_up(store.root());
        pull::clean_up(store.root());
        blobs.clean_up();
        let hub = Hub::new(sources.hub.clone());
        let (changes, transfers) = (sync::Mutex::default(), Mutex::default());
        Self {
            inner: Arc::new(Inner {
                store,
                blobs,
                sources,
                check_template,
                hub,
                changes,
                transfers,
            }),
        }
    }

    /// Fetches what a model's folder lacks of the files about text, from `tokenizer`, else from the
    /// repository that its Modelfile names, else from that of the short name which `name`, its own or
    /// its weights', amounts to. A folder that is not there is made when
    /// something comes. The names of what came.
    ///
    /// # Errors
    /// Where it lacks a tokenizer and none can be had.
    pub async fn complete(
        &self,
        folder: &Path,
        name: &str,
        tokenizer: Option<&str>,
    ) -> Result<Vec<String>, StoreError> {
        let catalog = &self.inner.sources.catalog;
        pull::complete(&self.inner.hub, catalog, folder, name, tokenizer).await
    }
}

impl Inner {
    /// Works on the folder, alone and off the async threads.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(self);
        // Not ended by a client that leaves: half a change would be left.
        let done = tokio::spawn(async move {
            let _alone = inner.changes.lock().await;
            let worker = Arc::clone(&inner);
            let done = spawn_blocking(move || {
                let root = worker.store.root();
                let _alone = lock::wait_for(root).map_err(|error| disk(root, &error))?;
                // What other servers did.
                worker.store.rescan();
                work(&worker)
            });
            done.await
        });
        match done.await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) | Err(error) => Err(StoreError::Disk { reason: error.to_string() }),
        }
    }

    fn folder(&self, model: &Model) -> Result<Arc<Folder>, StoreError> {
        let absent = || ModelError::NotFound { name: model.id.clone() };
        Ok(self.store.folder(&model.id).ok_or_else(absent)?)
    }

    /// The transfer of this plan: the one that is on its way, or a new one.
    fn transfer(self: &Arc<Self>, plan: Plan) -> Arc<Transfer> {
        let mut transfers =
            self.transfers.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        transfers.retain(|_, transfer| transfer.strong_count() > 0);
        let place = plan.staging(self.store.root());
        let there = transfers.get(&place).and_then(Weak::upgrade);
        // One that is over has nothing to say about now, however long somebody keeps it.
        if let Some(transfer) = there.filter(|transfer| !transfer.is_over()) {
            return transfer;
        }
        let (inner, at) = (Arc::clone(self), place.clone());
        let transfer = Arc::new(Transfer::begin(move |report| async move {
            let waits = || tracing::info!(folder = %at.display(), "another server fetches this");
            let held = lock::wait_for_patiently(&at, waits).await;
            let held = held.map_err(|error| disk(&at, &error))?;
            // Sees what that one did.
            inner.change(|_| Ok(())).await?;
            if let Some(model) = plan.is_there_already(&inner.store) {
                return Ok(model);
            }
            plan.fetch(&inner.hub, &inner.store, &at, &report).await?;
            report.writing();
            let install = move |inner: &Self| plan.install(&inner.store, at);
            let installed = inner.change(install).await;
            drop(held);
            installed
        }));
        transfers.insert(place, Arc::downgrade(&transfer));
        transfer
    }
}

impl ModelStore for Library {
    fn pull(&self, pull: Pull) -> Steps {
        let inner = Arc::clone(&self.inner);
        Box::pin(try_stream! {
            pull::check_name(&inner.sources, &pull)?;
            yield Step::Resolving;
            let plan = Plan::make(&inner.hub, &inner.sources, &inner.store, &pull).await?;
            if let Some(model) = plan.is_there_already(&inner.store) {
                yield Step::Verifying;
                yield Step::Done { model };
                return;
            }
            let transfer = inner.transfer(plan);
            let mut steps = transfer.steps();
            while let Some(step) = steps.next().await {
                yield step?;
            }
        })
    }

    fn create(&self, mut creation: Creation) -> Steps {
        let library = self.clone();
        Box::pin(try_stream! {
            if creation.from.is_none() {
                creation.from = make::from_of(&creation)?;
            }
            // Before gigabytes are fetched for nothing.
            make::check_templates(&creation, &library.inner.check_template)?;
            make::folder_of(&library.inner.store, &creation.name)?;
            let mut base = None;
            if let Some(from) = &creation.from {
                match library.inner.store.resolve(from) {
                    Err(ModelError::NotFound { .. }) => {
                        let pull = Pull { source: from.clone(), ..Pull::default() };
                        let mut steps = library.pull(pull);
                        while let Some(step) = steps.next().await {
                            match step? {
                                Step::Done { model } => base = library.inner.store.folder(&model),
                                step => yield step,
                            }
                        }
                    }
                    found => base = Some(library.inner.folder(&*found?)?),
                }
            }
            let made = library.inner.change(move |inner| {
                make::make(&inner.store, &inner.blobs, &inner.check_template, &creation, base.as_deref())
            });
            let (steps, model) = made.await?;
            for step in steps {
                yield step;
            }
            yield Step::Done { model };
        })
    }

    fn copy(&self, source: Arc<Model>, destination: String) -> Storing<()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let copy = Creation { name: destination, ..Creation::default() };
            let made = inner.change(move |inner| {
                let base = inner.folder(&source)?;
                make::make(&inner.store, &inner.blobs, &inner.check_template, &copy, Some(&base))
            });
            made.await.map(drop)
        })
    }

    fn delete(&self, model: Arc<Model>) -> Storing<()> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let unmade = inner.change(move |inner| {
                let folder = inner.folder(&model)?;
                make::unmake(&inner.store, &inner.blobs, &folder)
            });
            unmade.await
        })
    }

    fn has_blob(&self, digest: Digest) -> Storing<bool> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { Ok(inner.blobs.find(digest).is_some()) })
    }

    fn put_blob(&self, digest: Digest, upload: Upload) -> Storing<bool> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move { inner.blobs.put(digest, upload).await })
    }
}
