// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import "./Site.sol";
import {Vm, vm} from "./Vm.sol";

/// Submits entries of everybody, good and bad ones, and keeps its own books of what the contract took: from the `Entry`
/// events alone, as a client does. What must hold for one step is checked there, what must hold always by the invariants.
contract Handler is Site {
    uint256 internal constant DEVICES = 5;
    uint16 internal constant GROUPS = 3;

    address[] public everybody; // root, CA, operator, devices; the last device is never registered at first
    /// What the books say.
    bytes32 public head;
    uint64 public entries;
    mapping(address originator => uint64) public entriesOf;
    mapping(uint16 => mapping(uint32 generation => uint64)) public commitsIn;
    mapping(uint8 kind => uint256) public takenOf;
    mapping(uint8 kind => uint256) public refusedOf;
    SealcastLedger.Submission[] private taken;
    uint64[] private times;

    struct Place {
        uint32 generation;
        uint64 epoch;
    }

    mapping(bytes32 publicKey => uint256) private privateKeyOf;
    uint256 private random;

    constructor() {
        setUp();
        head = sha256(
            abi.encodePacked(
                "sealcast-genesis-v2",
                uint64(block.chainid),
                address(ledger),
                xy(ROOT_KEY),
                xy(CA_KEY),
                xy(OPERATOR_KEY)
            )
        );
        everybody.push(root);
        everybody.push(ca);
        everybody.push(operator);
        for (uint256 i = 0; i < DEVICES; i++) {
            string memory name = string.concat("d", vm.toString(i));
            address number = ledger.numberOf(name);
            everybody.push(number);
            keyOf[number] = 0xd0 + i;
            if (i + 1 < DEVICES) found(DEVICE_REGISTERED, ca, registration(name, note(keyOf[number])));
        }
        found(GROUP_CREATED, operator, creation("g1", "g1/#"));
        for (uint256 i = 0; i < 3; i++) found(GRANTED, operator, abi.encode(uint16(1), everybody[3 + i]));
    }

    /// A new contract that succeeds the ledger, and has all its entries.
    function move() external returns (SealcastLedger to) {
        to = deploy(uint64(block.chainid), address(ledger));
        found(MOVED, operator, moving(to));
        to.replay(taken, times);
    }

    function theLedger() external view returns (SealcastLedger) {
        return ledger;
    }

    function groups() external view returns (uint16) {
        return ledger.groupCount();
    }

    // ------------------------------------------------------------------------------------------------------ steps

    /// One entry, of what kind, by whom and how good the seed decides.
    function step(uint256 seed) external {
        random = seed;
        submit(some(new SealcastLedger.Submission[](0)));
    }

    /// Several entries in one transaction.
    function stepMany(uint256 seed) external {
        random = seed;
        SealcastLedger.Submission[] memory batch = new SealcastLedger.Submission[](0);
        for (uint256 left = pick(8); left > 0; left--) batch = append(batch, some(batch));
        submitMany(batch);
    }

    function append(SealcastLedger.Submission[] memory before, SealcastLedger.Submission memory last)
        private
        pure
        returns (SealcastLedger.Submission[] memory all)
    {
        all = new SealcastLedger.Submission[](before.length + 1);
        for (uint256 i = 0; i < before.length; i++) all[i] = before[i];
        all[before.length] = last;
    }

    /// An entry that is submitted behind those `before` it.
    function some(SealcastLedger.Submission[] memory before) private returns (SealcastLedger.Submission memory e) {
        if (pick(4) == 0) vm.warp(block.timestamp + pick(3000));
        e.kind = pick(40) == 0 ? uint8(pick(256)) : uint8(1 + pick(KEY_ROTATED));
        uint16 number = uint16(pick(16) == 0 ? pick(GROUPS + 2) : 1 + pick(ledger.groupCount()));
        e.originator = pick(8) == 0 ? everybody[pick(everybody.length)] : authorOf(e.kind, number);
        e.body = bodyOf(e.kind, e.originator, number);
        e.nonce = ledger.nonceOf(e.originator);
        for (uint256 i = 0; i < before.length; i++) if (before[i].originator == e.originator) e.nonce += 1;
        uint256 mischief = pick(24);
        if (mischief == 0) e.body = bytes.concat(e.body, hex"00");
        if (mischief == 1 && e.body.length > 0) e.body[pick(e.body.length)] ^= bytes1(uint8(1 + pick(255)));
        if (mischief == 2) e.nonce += 1;
        if (mischief == 3 && e.nonce > 0) e.nonce -= 1;
        e.signature = sign(mischief == 4 ? 0xbad : keyOf[e.originator], digestOf(e));
    }

    function pick(uint256 choices) private returns (uint256) {
        random = uint256(keccak256(abi.encode(random)));
        return random % choices;
    }

    function authorOf(uint8 kind, uint16 number) private returns (address) {
        if (kind == DEVICE_REGISTERED) return ca;
        if (kind == DEVICE_REVOKED) return pick(2) == 0 ? ca : operator;
        if (kind == KEY_ROTATED) return pick(2) == 0 ? root : operator;
        bool isOperators = kind == GROUP_CREATED || kind == GRANTED || kind == REVOKED || kind == GROUP_RESET
            || kind == LIMITS_SET;
        if (isOperators) return operator;
        address device = someDevice();
        for (uint256 i = 0; i < DEVICES && !ledger.granted(number, device); i++) device = everybody[3 + i];
        return device;
    }

    function someDevice() private returns (address) {
        return everybody[3 + pick(DEVICES)];
    }

    /// A body that is good more often than not.
    function bodyOf(uint8 kind, address originator, uint16 number) private returns (bytes memory) {
        if (kind == DEVICE_REGISTERED) return someRegistration();
        if (kind == DEVICE_REVOKED) return pick(4) == 0 ? abi.encode(someDevice(), "lost") : bytes("");
        if (kind == KEYS_PUBLISHED) {
            uint256 device = pick(DEVICES);
            for (uint256 i = 0; i < DEVICES; i++) if (everybody[3 + i] == originator) device = i;
            bytes32 certificate = certificateOf(string.concat("d", vm.toString(device)));
            return abi.encode(bytes32(pick(500)), certificate, pick(2) == 0);
        }
        if (kind == GROUP_CREATED) {
            string memory name = string.concat("g", vm.toString(1 + pick(GROUPS)));
            return creation(name, string.concat(name, "/#"));
        }
        if (kind == GRANTED) return abi.encode(number, someDevice());
        if (kind == REVOKED) return abi.encode(number, someDevice(), "gone");
        if (kind == COMMIT) {
            // The contract does not look at it: garbage takes the epoch as a good commit does.
            (uint32 generation, uint64 epoch) = someEpoch(number);
            return abi.encode(number, generation, epoch, abi.encode(random));
        }
        if (kind == READING) {
            return abi.encode(number, someTopic(number), uint64(1), uint64(entries), int128(int256(pick(120))), uint8(0));
        }
        if (kind == ANCHOR) return abi.encode(number, bytes32(random), uint32(pick(9)));
        if (kind == GROUP_RESET) return pick(3) == 0 ? abi.encode(number, "leak") : bytes("");
        if (kind == LIMITS_SET) {
            return abi.encode(
                number, someTopic(number), int128(0), int128(99), uint128(50), uint8(0), "", false, false, new address[](0)
            );
        }
        if (kind == FAULT_REPORTED) {
            (uint32 generation, uint64 epoch) = someEpoch(number);
            return abi.encode(number, generation, epoch == 0 ? epoch : epoch - 1, pick(3) == 0);
        }
        if (kind == KEY_ROTATED) return rotation(originator == root ? ca : operator, note(0xe000 + pick(1000)));
        return abi.encode(random);
    }

    function someRegistration() private returns (bytes memory) {
        uint256 device = pick(DEVICES);
        uint256 key = pick(4) == 0 ? 0xf000 + pick(1000) : keyOf[everybody[3 + device]];
        return registration(string.concat("d", vm.toString(device)), note(key));
    }

    function someTopic(uint16 number) private pure returns (string memory) {
        return string.concat("g", vm.toString(uint256(number)), "/t");
    }

    /// Mostly where the group's next commit must be made.
    function someEpoch(uint16 number) private returns (uint32 generation, uint64 epoch) {
        if (number == 0 || number > ledger.groupCount()) return (0, 0);
        (generation, epoch) = ledger.epochOf(number);
        if (pick(8) == 0) generation += 1;
        if (pick(8) == 0) epoch += 1;
        if (pick(8) == 0 && epoch > 0) epoch -= 1;
    }

    // ------------------------------------------------------------------------------------------------- submission

    /// An entry of the beginning.
    function found(uint8 kind, address originator, bytes memory body) private {
        SealcastLedger.Submission memory e =
            SealcastLedger.Submission(kind, originator, ledger.nonceOf(originator), body, "");
        e.signature = sign(keyOf[originator], digestOf(e));
        submit(e);
        vm.assertEq(entriesOf[originator], e.nonce + 1, "an entry of the beginning");
    }

    function submit(SealcastLedger.Submission memory e) private {
        Place[] memory before = places();
        vm.recordLogs();
        bytes memory call = abi.encodeCall(ledger.submit, (e.kind, e.originator, e.nonce, e.body, e.signature));
        (bool isTaken,) = address(ledger).call(call);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        if (isTaken) {
            vm.assertEq(write(logs, 0, e), logs.length, "events of one entry");
            followEpochs(e.kind, e.body, before);
        } else {
            vm.assertEq(logs.length, 0, "events of a refused entry");
            requirePlaces(before, 0);
            refusedOf[e.kind] += 1;
        }
    }

    function submitMany(SealcastLedger.Submission[] memory batch) private {
        Place[] memory before = places();
        vm.recordLogs();
        ledger.submitMany(batch);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        uint256 next = 0;
        for (uint256 i = 0; i < batch.length; i++) {
            vm.assertTrue(next < logs.length, "an event for each entry");
            if (logs[next].topics[0] != SealcastLedger.Refused.selector) {
                next = write(logs, next, batch[i]);
                continue;
            }
            vm.assertEq(uint256(logs[next].topics[1]), i, "the position of the refused");
            refusedOf[batch[i].kind] += 1;
            next += 1;
        }
        vm.assertEq(next, logs.length, "events of all entries");
        requireGrowth(before);
    }

    /// The digest as a client computes it, not as the contract says.
    function digestOf(SealcastLedger.Submission memory e) private view returns (bytes32) {
        return sha256(
            abi.encodePacked(
                "sealcast-entry-v1", uint64(block.chainid), address(ledger), e.kind, e.originator, e.nonce, e.body
            )
        );
    }

    /// Writes an entry that was taken to the books, by its events from `next` on. Where the next entry's begin.
    function write(Vm.Log[] memory logs, uint256 next, SealcastLedger.Submission memory e) private returns (uint256) {
        if (e.kind == READING) {
            vm.assertEq(logs[next].topics[0], SealcastLedger.ReadingJudged.selector, "the event before a reading's");
            next += 1;
        }
        Vm.Log memory log = logs[next];
        vm.assertEq(log.emitter, address(ledger), "who tells it");
        vm.assertEq(log.topics[0], SealcastLedger.Entry.selector, "the event");
        vm.assertEq(uint256(log.topics[1]), entries, "index");
        vm.assertEq(e.nonce, entriesOf[e.originator], "nonce");
        uint64 time = uint64(block.timestamp);
        head = sha256(abi.encodePacked(head, entries, time, digestOf(e)));
        vm.assertEq(log.data, abi.encode(e.nonce, time, e.body, e.signature, head), "what it says");
        entries += 1;
        entriesOf[e.originator] += 1;
        takenOf[e.kind] += 1;
        taken.push(e);
        times.push(time);
        if (e.kind == COMMIT) {
            (uint16 number, uint32 generation) = abi.decode(e.body, (uint16, uint32));
            commitsIn[number][generation] += 1;
        }
        learnKeys(e.kind, e.body);
        return next + 1;
    }

    /// Whose private key is another from now on.
    function learnKeys(uint8 kind, bytes memory body) private {
        if (kind == KEY_ROTATED) {
            (address whose, bytes memory publicKey,) = abi.decode(body, (address, bytes, bytes));
            keyOf[whose] = privateKeyOf[keccak256(publicKey)];
        }
        if (kind == DEVICE_REGISTERED) {
            (string memory name, bytes memory publicKey,,,) =
                abi.decode(body, (string, bytes, bytes32, bytes, uint64));
            keyOf[ledger.numberOf(name)] = privateKeyOf[keccak256(publicKey)];
        }
    }

    /// A key that is perhaps new, and noted so that its owner can sign.
    function note(uint256 key) private returns (uint256) {
        privateKeyOf[keccak256(xy(key))] = key;
        return key;
    }

    // ----------------------------------------------------------------------------------------------------- epochs

    function places() private view returns (Place[] memory all) {
        all = new Place[](ledger.groupCount() + 1);
        for (uint16 number = 1; number < all.length; number++) {
            (all[number].generation, all[number].epoch) = ledger.epochOf(number);
        }
    }

    /// All groups but `except` are where they were.
    function requirePlaces(Place[] memory before, uint16 except) private view {
        Place[] memory now_ = places();
        for (uint16 number = 1; number < before.length; number++) {
            if (number == except) continue;
            vm.assertEq(now_[number].generation, before[number].generation, "the generation of a group");
            vm.assertEq(now_[number].epoch, before[number].epoch, "the epoch of a group");
        }
    }

    /// A commit ends one epoch; a reset, or enough reports, begin the next generation; nothing else moves a group.
    function followEpochs(uint8 kind, bytes memory body, Place[] memory before) private view {
        if (kind != COMMIT && kind != GROUP_RESET && kind != FAULT_REPORTED) return requirePlaces(before, 0);
        uint16 number = uint16(uint256(bytes32(body)));
        requirePlaces(before, number);
        (uint32 generation, uint64 epoch) = ledger.epochOf(number);
        Place memory was = before[number];
        if (kind == COMMIT) {
            vm.assertEq(generation, was.generation, "the generation behind a commit");
            vm.assertEq(epoch, was.epoch + 1, "the epoch behind a commit");
        } else if (kind == GROUP_RESET || generation != was.generation) {
            vm.assertEq(generation, was.generation + 1, "the next generation");
            vm.assertEq(epoch, 0, "its first epoch");
        } else {
            vm.assertEq(epoch, was.epoch, "the epoch behind a report");
        }
    }

    /// No group went back.
    function requireGrowth(Place[] memory before) private view {
        Place[] memory now_ = places();
        for (uint16 number = 1; number < before.length; number++) {
            bool isNew = now_[number].generation > before[number].generation;
            bool isOn = now_[number].generation == before[number].generation && now_[number].epoch >= before[number].epoch;
            vm.assertTrue(isNew || isOn, "a group goes on");
        }
    }
}
