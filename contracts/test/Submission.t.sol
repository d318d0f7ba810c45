// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import "./Site.sol";
import {Vm, vm} from "./Vm.sol";

/// What holds for an entry of any kind.
contract SubmissionTest is Site {
    address internal constant P256VERIFY = address(0x100);
    uint256 internal constant MAX_BODY = 96 * 1024;

    function setUp() public override {
        super.setUp();
        member("valve", group("plant"));
    }

    // ------------------------------------------------------------------------------------------------ deployment

    function test_the_first_head_names_the_chain_the_contract_and_the_keys() public {
        super.setUp();
        bytes memory keys = bytes.concat(xy(ROOT_KEY), xy(CA_KEY), xy(OPERATOR_KEY));
        bytes memory genesis =
            abi.encodePacked("sealcast-genesis-v2", uint64(block.chainid), address(ledger), keys);
        vm.assertEq(ledger.genesisKeys(), keys, "genesisKeys");
        vm.assertEq(ledger.head(), sha256(genesis), "head");
        vm.assertEq(ledger.height(), 0, "height");
        vm.assertEq(ledger.deployedAt(), block.number, "deployedAt");
        vm.assertEq(ledger.keyOf(root), xy(ROOT_KEY), "the root's key");
        vm.assertEq(ledger.keyOf(ca), xy(CA_KEY), "the CA's key");
        vm.assertEq(ledger.keyOf(operator), xy(OPERATOR_KEY), "the operator's key");
    }

    function test_a_key_off_the_curve_is_not_deployed_with() public {
        bytes memory off = abi.encode(uint256(1), uint256(1));
        refuseDeployment(creationCode(off), abi.encodeWithSelector(SealcastLedger.BadPublicKey.selector));
    }

    function test_a_network_without_p256verify_is_refused() public {
        vm.mockCall(P256VERIFY, "", "");
        refuseDeployment(
            creationCode(xy(OPERATOR_KEY)), abi.encodeWithSelector(SealcastLedger.P256Unavailable.selector)
        );
    }

    /// No EVM of today has a chain id of more than 64 bits, so the code asks for its own address in the id's place.
    function test_a_chain_id_beyond_64_bits_is_refused() public {
        bytes memory code = creationCode(xy(OPERATOR_KEY));
        for (uint256 i = 0; i < code.length; i++) {
            uint8 op = uint8(code[i]);
            if (op == 0x46) code[i] = 0x30; // CHAINID, ADDRESS
            if (op >= 0x60 && op <= 0x7f) i += op - 0x5f; // what a PUSH pushes is no code
        }
        (address deployed, bytes memory refusal) = create(code);
        vm.assertEq(deployed, address(0), "not deployed");
        vm.assertEq(bytes4(refusal), SealcastLedger.ChainIdTooLarge.selector, "why");
        vm.assertTrue(uint256(bytes32(this.behindSelector(refusal))) > type(uint64).max, "the chain id");
    }

    function behindSelector(bytes calldata data) external pure returns (bytes calldata) {
        return data[4:];
    }

    function creationCode(bytes memory operatorKey) private view returns (bytes memory) {
        return abi.encodePacked(
            vm.getCode("./SealcastLedger.json"),
            abi.encode(xy(ROOT_KEY), xy(CA_KEY), operatorKey, uint64(0), address(0))
        );
    }

    function refuseDeployment(bytes memory code, bytes memory expected) private {
        (address deployed, bytes memory refusal) = create(code);
        vm.assertEq(deployed, address(0), "not deployed");
        vm.assertEq(refusal, expected, "why it is not deployed");
    }

    // ------------------------------------------------------------------------------------------------ one entry

    function test_an_entry_moves_the_head_and_is_told() public {
        bytes memory body = registration("pump", 7);
        (bytes32 before, uint64 index, uint64 nonce) = (ledger.head(), ledger.height(), ledger.nonceOf(ca));
        bytes32 digest = ledger.digestOf(DEVICE_REGISTERED, ca, nonce, body);
        vm.warp(START + 5);
        vm.recordLogs();
        take(DEVICE_REGISTERED, ca, body);

        bytes32 head = sha256(abi.encodePacked(before, index, uint64(START + 5), digest));
        vm.assertEq(ledger.head(), head, "head");
        vm.assertEq(ledger.lastTime(), START + 5, "lastTime");
        vm.assertEq(ledger.nonceOf(ca), nonce + 1, "nonce");
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs.length, 1, "events");
        vm.assertEq(logs[0].topics[0], SealcastLedger.Entry.selector, "the event");
        vm.assertEq(uint256(logs[0].topics[1]), index, "its index");
        vm.assertEq(address(uint160(uint256(logs[0].topics[2]))), ca, "its originator");
        vm.assertEq(uint256(logs[0].topics[3]), DEVICE_REGISTERED, "its kind");
        bytes memory data = abi.encode(nonce, uint64(START + 5), body, sign(CA_KEY, digest), head);
        vm.assertEq(logs[0].data, data, "what it says");
    }

    function test_the_digest_names_the_chain_the_contract_and_the_entry() public view {
        bytes memory preimage = abi.encodePacked(
            "sealcast-entry-v1", uint64(block.chainid), address(ledger), uint8(7), ca, uint64(9), bytes("body")
        );
        vm.assertEq(ledger.digestOf(7, ca, 9, "body"), sha256(preimage), "digest");
    }

    function test_the_longest_body_is_taken_and_no_longer_one() public {
        address valve = ledger.numberOf("valve");
        // The fields before the commit and its length take 160 bytes.
        take(COMMIT, valve, abi.encode(uint16(1), uint32(0), uint64(0), new bytes(MAX_BODY - 160)));
        refuse(
            COMMIT,
            valve,
            abi.encode(uint16(1), uint32(0), uint64(1), new bytes(MAX_BODY - 159)),
            abi.encodeWithSelector(SealcastLedger.BadLength.selector, "body", MAX_BODY + 32, 0, MAX_BODY)
        );
    }

    function test_a_signature_has_64_bytes() public {
        for (uint256 length = 63; length <= 65; length += 2) {
            refuseCall(
                abi.encodeCall(ledger.submit, (ANCHOR, ca, 0, "", new bytes(length))),
                abi.encodeWithSelector(SealcastLedger.BadLength.selector, "signature", length, 64, 64)
            );
        }
    }

    function test_time_does_not_go_back() public {
        vm.warp(START - 1);
        refuse(
            DEVICE_REGISTERED,
            ca,
            registration("pump", 7),
            abi.encodeWithSelector(SealcastLedger.ClockWentBack.selector, START, START - 1)
        );
        vm.warp(START);
        take(DEVICE_REGISTERED, ca, registration("pump", 7));
    }

    function test_a_nonce_is_used_once_and_none_is_left_out() public {
        bytes memory body = registration("pump", 7);
        uint64 next = ledger.nonceOf(ca);
        for (uint64 nonce = next - 1; nonce <= next + 1; nonce += 2) {
            bytes memory signature = sign(CA_KEY, ledger.digestOf(DEVICE_REGISTERED, ca, nonce, body));
            refuseCall(
                abi.encodeCall(ledger.submit, (DEVICE_REGISTERED, ca, nonce, body, signature)),
                abi.encodeWithSelector(SealcastLedger.BadNonce.selector, next, nonce)
            );
        }
    }

    function test_another_key_or_another_entry_is_a_bad_signature() public {
        bytes memory body = registration("pump", 7);
        uint64 nonce = ledger.nonceOf(ca);
        bytes32 digest = ledger.digestOf(DEVICE_REGISTERED, ca, nonce, body);
        bytes memory bad = abi.encodeWithSelector(SealcastLedger.BadSignature.selector);
        bytes memory theirs = sign(OPERATOR_KEY, digest);
        refuseCall(abi.encodeCall(ledger.submit, (DEVICE_REGISTERED, ca, nonce, body, theirs)), bad);
        bytes memory signature = sign(CA_KEY, digest);
        refuseCall(
            abi.encodeCall(ledger.submit, (DEVICE_REGISTERED, ca, nonce, registration("pump", 8), signature)), bad
        );
        refuseCall(abi.encodeCall(ledger.submit, (DEVICE_REVOKED, ca, nonce, body, signature)), bad);
        refuseCall(abi.encodeCall(ledger.submit, (DEVICE_REGISTERED, ca, nonce, body, new bytes(64))), bad);
        refuseCall(
            abi.encodeCall(ledger.submit, (DEVICE_REGISTERED, operator, ledger.nonceOf(operator), body, signature)),
            bad
        );
    }

    function test_a_lost_precompile_is_not_taken_for_a_bad_signature() public {
        bytes memory call = submission(DEVICE_REGISTERED, ca, registration("pump", 7));
        vm.mockCall(P256VERIFY, "", "");
        refuseCall(call, abi.encodeWithSelector(SealcastLedger.P256Unavailable.selector));
        vm.clearMockedCalls();
        (bool taken,) = address(ledger).call(call);
        vm.assertTrue(taken, "the same entry, with the precompile");
    }

    function test_only_those_sign_whom_the_ledger_knows() public {
        address stranger = ledger.numberOf("stranger");
        keyOf[stranger] = 7;
        refuse(ANCHOR, stranger, "", abi.encodeWithSelector(SealcastLedger.UnknownDevice.selector, stranger));
        address valve = ledger.numberOf("valve");
        take(DEVICE_REVOKED, ca, abi.encode(valve, "lost"));
        refuse(ANCHOR, valve, "", abi.encodeWithSelector(SealcastLedger.NotActive.selector, valve));
    }

    function test_there_are_no_other_kinds() public {
        uint8[3] memory kinds = [0, LAST_KIND + 1, type(uint8).max];
        for (uint256 i = 0; i < kinds.length; i++) {
            refuse(kinds[i], operator, "", abi.encodeWithSelector(SealcastLedger.UnknownKind.selector, kinds[i]));
        }
    }

    // ------------------------------------------------------------------------------------------------ each kind

    /// A body of the kind whose form is good.
    function good(uint8 kind) private view returns (bytes memory) {
        address valve = ledger.numberOf("valve");
        if (kind == DEVICE_REGISTERED) return registration("pump", 7);
        if (kind == DEVICE_REVOKED) return abi.encode(valve, "lost");
        if (kind == KEYS_PUBLISHED) return abi.encode(bytes32("package"), certificateOf("valve"), false);
        if (kind == GROUP_CREATED) return creation("lamps", "lamps/#");
        if (kind == GRANTED) return abi.encode(uint16(1), valve);
        if (kind == REVOKED) return abi.encode(uint16(1), valve, "gone");
        if (kind == COMMIT) return abi.encode(uint16(1), uint32(0), uint64(0), bytes("commit"));
        if (kind == READING) return abi.encode(uint16(1), "plant/t", uint64(1), uint64(1), int128(1), uint8(0));
        if (kind == ANCHOR) return abi.encode(uint16(1), bytes32("root"), uint32(1));
        if (kind == GROUP_RESET) return abi.encode(uint16(1), "leak");
        if (kind == FAULT_REPORTED) return abi.encode(uint16(1), uint32(0), uint64(0), false);
        if (kind == KEY_ROTATED) return rotation(operator, 8);
        if (kind == MOVED) return abi.encode(uint64(1), address(1));
        return abi.encode(
            uint16(1), "plant/t", int128(0), int128(9), uint128(0), uint8(0), "", false, false, new address[](0)
        );
    }

    /// Whose entries the kind is for.
    function mayAuthor(uint8 kind, address originator) private view returns (bool) {
        if (kind == DEVICE_REGISTERED) return originator == ca;
        if (kind == DEVICE_REVOKED) return originator == ca || originator == operator;
        if (kind == KEY_ROTATED) return originator == root || originator == operator;
        if (
            kind == GROUP_CREATED || kind == GRANTED || kind == REVOKED || kind == GROUP_RESET || kind == LIMITS_SET
                || kind == MOVED
        ) return originator == operator;
        return originator == ledger.numberOf("valve");
    }

    function test_each_kind_is_for_its_originators_only() public {
        address[4] memory everybody = [root, ca, operator, ledger.numberOf("valve")];
        for (uint8 kind = 1; kind <= LAST_KIND; kind++) {
            for (uint256 i = 0; i < everybody.length; i++) {
                if (mayAuthor(kind, everybody[i])) continue;
                refuse(
                    kind,
                    everybody[i],
                    good(kind),
                    abi.encodeWithSelector(SealcastLedger.NotAuthorized.selector, kind, everybody[i])
                );
            }
        }
    }

    function test_a_body_that_can_be_read_in_two_ways_is_no_entry() public {
        for (uint8 kind = 1; kind <= LAST_KIND; kind++) {
            bytes memory bad = abi.encodeWithSelector(SealcastLedger.BadBody.selector, kind);
            refuse(kind, operator, bytes.concat(good(kind), new bytes(32)), bad);
            refuse(kind, operator, bytes.concat(good(kind), hex"00"), bad);
        }
        // The padding behind the text "lost".
        bytes memory dirty = good(DEVICE_REVOKED);
        dirty[dirty.length - 1] = 0x01;
        refuse(
            DEVICE_REVOKED, ca, dirty, abi.encodeWithSelector(SealcastLedger.BadBody.selector, DEVICE_REVOKED)
        );
    }

    function test_a_body_that_is_no_abi_is_refused_without_words() public {
        for (uint8 kind = 1; kind <= LAST_KIND; kind++) {
            refuse(kind, operator, "", "");
            refuse(kind, operator, hex"ff", "");
        }
    }
}
