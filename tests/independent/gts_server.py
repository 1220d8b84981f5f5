"""The server's decisions (docs/protocol.md, 7), written from that document alone.

Owns subscriptions, what each identity is answered, promotion, Sent, repetitions, the queue, recovery.
Refuses to know sockets and clocks: a datagram, its source and the time go in; an answer or a reason, and
events, come out. Everything is in memory, so there is one generation, 0, and no walk.
"""

import secrets
from dataclasses import dataclass, field

from gts_protocol import AUTH, AUTHENTICATED, NOTHING_TO_DO, PLAIN, RESPONSE, Link, Recovery, kdf, tlv

LONGEST_MSG = {PLAIN: 64, AUTHENTICATED: 228}
MOST_WITHDRAWN = 4
MOST_AHEAD = 60
REPETITION_INTERVAL = 1.0


class Refused(Exception):
    """What an operator asked for cannot be done; the text says why."""


class Dropped(Exception):
    """A datagram that is not answered; the text is what it is counted as."""


@dataclass
class Message:
    """A queued message; `msg` is whole, with its id."""

    id: int
    msg: bytes


@dataclass
class Pair:
    """Sent and the highest Resend_Counter of one identity."""

    sent: int = 0
    highest: int = -1


@dataclass(frozen=True)
class Place:
    """Where a known identity is: the link that answers it and what its poll proves."""

    subscription: "Subscription"
    link: Link
    # For a child: the message that led there (0: nothing to do), and the recovery identity above it.
    delivered: int | None = None
    parent: Recovery | None = None

    @property
    def is_child(self):
        return self.delivered is not None


@dataclass
class Subscription:
    """One card, as the server sees it."""

    reference: str
    mode: int
    link: Link
    recovery: Recovery
    s_dev: bytes
    attempt: int = 0
    highest_id: int = 0
    queue: list = field(default_factory=list)
    withdrawn: list = field(default_factory=list)
    pairs: dict = field(default_factory=dict)
    answered_at: dict = field(default_factory=dict)

    @property
    def form(self):
        return AUTHENTICATED if self.mode & AUTH else PLAIN

    @property
    def offered(self):
        """The id on offer: of the head of the queue, or 0."""
        return self.queue[0].id if self.queue else 0

    def uid_rand(self, link, message_id, attempt):
        context = link.uid + message_id.to_bytes(4, "big") + bytes([attempt])
        return kdf(self.s_dev, b"R", 0, context, 8)

    def places(self):
        """Every identity that is answered, first the current one."""
        yield Place(self, self.link)
        for message_id in {0, self.offered, *(message.id for message in self.withdrawn)}:
            for attempt in range(self.attempt + 1):
                rand = self.uid_rand(self.link, message_id, attempt)
                yield Place(self, self.link.child(rand), message_id)
        recovery = self.recovery.link
        yield Place(self, recovery)
        yield Place(self, recovery.child(self.uid_rand(recovery, 0, 0)), 0, self.recovery)

    def answer(self, link, sent):
        if link.is_recovery:
            return link.seal(NOTHING_TO_DO, sent, self.uid_rand(link, 0, 0))
        msg = self.queue[0].msg if self.queue else NOTHING_TO_DO
        return link.seal(msg, sent, self.uid_rand(link, self.offered, self.attempt))

    def promote(self, place):
        """Makes a child current; returns what became of messages, as events."""
        otherwise = "cancelled"
        if place.parent:
            self.recovery, otherwise = place.parent.next(), "cancelled, perhaps executed"
        ended = [message.id for message in self.withdrawn]
        if self.queue and place.delivered == self.offered:
            ended.append(self.queue.pop(0).id)
        events = [
            {"message": id, "became": "delivered" if id == place.delivered else otherwise}
            for id in ended
        ]
        self.link, self.attempt, self.withdrawn = place.link, 0, []
        self.pairs, self.answered_at = {}, {}
        return events

    def count(self, link, counter, source, now):
        """Sent of the answer to this poll; `Dropped` for a repetition that comes too soon."""
        pair = self.pairs.setdefault(link.uid, Pair())
        if counter > pair.highest:
            pair.sent, pair.highest = pair.sent + 1, counter
        elif now - self.answered_at.get((link.uid, source), -REPETITION_INTERVAL) < REPETITION_INTERVAL:
            raise Dropped("repeated too soon")
        self.answered_at[(link.uid, source)] = now
        return pair.sent


class Server:
    """All subscriptions, and their identities in one table."""

    def __init__(self):
        self._secret = secrets.token_bytes(16)
        self._subscriptions = {}
        self._places = {}

    def add(self, reference, profile):
        s_dev = kdf(self._secret, b"S", 0, reference.encode() + bytes(4), 16)
        one = Subscription(reference, profile.mode, profile.first_link(), profile.first_recovery(), s_dev)
        if reference in self._subscriptions or one.link.uid in self._places:
            raise Refused(f"{reference}: there is one with this reference or identity already")
        self._subscriptions[reference] = one
        self._publish(one)

    def receive(self, datagram, source, now):
        """(answer, events) for one datagram; `source` is the address without the port, `now` in seconds."""
        place = self._check(datagram)
        one, events = place.subscription, []
        if place.is_child:
            events = one.promote(place)
            events.insert(0, {"promoted": place.link.uid.hex(), "by_recovery": bool(place.parent)})
            self._publish(one)
        counter = datagram[1]
        sent = one.count(place.link, counter, source, now)
        events.append({"answered": place.link.uid.hex(), "resend_counter": counter, "sent": sent})
        return one.answer(place.link, sent), [{"reference": one.reference, **event} for event in events]

    def _check(self, datagram):
        """Steps 1 to 5 of 7.3: the place of the identity, or `Dropped`."""
        if not datagram:
            raise Dropped("empty")
        if datagram[0] not in (PLAIN, AUTHENTICATED):
            raise Dropped("response" if datagram[0] == RESPONSE else "unknown form")
        if len(datagram) != (12 if datagram[0] == PLAIN else 20):
            raise Dropped("wrong length")
        place = self._places.get(datagram[2:12])
        if place is None:
            raise Dropped("unknown identity")
        if datagram[0] != place.subscription.form:
            raise Dropped("plain to authenticated" if datagram[0] == PLAIN else "authenticated to plain")
        if datagram[0] == AUTHENTICATED and not place.link.poll_is_authentic(datagram):
            raise Dropped("wrong MAC")
        return place

    def send(self, reference, objects, now):
        """Queues a message of these objects, in bytes after the id; returns its id."""
        one = self._known(reference)
        message_id = max(one.highest_id + 1, int(now))
        if message_id > now + MOST_AHEAD:
            raise Refused(f"{reference}: too many messages, wait {message_id - MOST_AHEAD - now:.0f} s")
        msg = tlv("81", message_id.to_bytes(4, "big")) + objects
        if len(msg) > LONGEST_MSG[one.form]:
            raise Refused(f"{reference}: {len(msg)} bytes, of {LONGEST_MSG[one.form]} at most")
        one.highest_id = message_id
        one.queue.append(Message(message_id, msg))
        self._publish(one)
        return message_id

    def cancel(self, reference, message_id):
        """Takes a message out of the queue; one that was the head is withdrawn."""
        one = self._known(reference)
        message = next((message for message in one.queue if message.id == message_id), None)
        if message is None:
            raise Refused(f"{reference}: no message {message_id} is queued")
        if message is one.queue[0]:
            if len(one.withdrawn) == MOST_WITHDRAWN:
                raise Refused(f"{reference}: {MOST_WITHDRAWN} are withdrawn already")
            one.withdrawn.append(message)
        one.queue.remove(message)
        self._publish(one)

    def _known(self, reference):
        if reference not in self._subscriptions:
            raise Refused(f"{reference}: no such subscription")
        return self._subscriptions[reference]

    def _publish(self, one):
        """Puts the identities of `one` into the table, raising its attempt while a child is somebody else's."""
        for uid in [uid for uid, place in self._places.items() if place.subscription is one]:
            del self._places[uid]
        while any(place.link.uid in self._places for place in one.places() if place.is_child):
            one.attempt += 1
        for place in one.places():
            self._places.setdefault(place.link.uid, place)
