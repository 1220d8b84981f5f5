//! The mailboxes of all terminals of a process, which come and go.
//!
//! Owns who is reached by a letter to everybody, and that nobody who comes after the end was called misses it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Mail, Post};

/// A list that all who write letters share.
#[derive(Clone, Debug, Default)]
pub struct Posts(Arc<Mutex<List>>);

#[derive(Debug, Default)]
struct List {
    next: u64,
    posts: Vec<(u64, Post)>,
    stopped: bool,
}

/// On the list until it is dropped.
#[derive(Debug)]
pub struct Listed {
    posts: Posts,
    number: u64,
}

impl Posts {
    /// Adds a mailbox; one that comes after [`Posts::stop`] is told at once.
    #[must_use = "it is on the list as long as this lives"]
    pub fn add(&self, post: Post) -> Listed {
        let mut list = self.lock();
        if list.stopped {
            post.send(Mail::Stop);
        }
        let number = list.next;
        list.next += 1;
        list.posts.push((number, post));
        Listed {
            posts: self.clone(),
            number,
        }
    }

    /// All that are on the list now, in the order in which they came.
    pub fn all(&self) -> Vec<Post> {
        let list = self.lock();
        list.posts.iter().map(|(_, post)| post.clone()).collect()
    }

    /// Tells all to end, now and from now on.
    pub fn stop(&self) {
        let mut list = self.lock();
        list.stopped = true;
        for (_, post) in &list.posts {
            post.send(Mail::Stop);
        }
    }

    fn lock(&self) -> MutexGuard<'_, List> {
        // No code that holds the lock can panic, so the list behind it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FromIterator<Post> for Posts {
    fn from_iter<I: IntoIterator<Item = Post>>(posts: I) -> Self {
        let posts: Vec<_> = (0..).zip(posts).collect();
        Self(Arc::new(Mutex::new(List {
            next: posts.len() as u64,
            posts,
            stopped: false,
        })))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        let mut list = self.posts.lock();
        list.posts.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terminal::Mailbox;

    fn told_to_stop(mailbox: &Mailbox) -> bool {
        mailbox.take().iter().any(|mail| matches!(mail, Mail::Stop))
    }

    #[test]
    fn the_end_reaches_those_who_are_there_those_who_come_later_and_nobody_who_left() {
        let [here, later, gone] = [(); 3].map(|()| Mailbox::new().unwrap());
        let posts = Posts::default();
        let _here = posts.add(here.post());
        drop(posts.add(gone.post()));
        posts.stop();
        let _later = posts.add(later.post());
        assert!(told_to_stop(&here) && told_to_stop(&later));
        assert!(!told_to_stop(&gone));
        assert_eq!(posts.all().len(), 2);
    }
}
