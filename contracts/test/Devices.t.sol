// SPDX-License-Identifier: Apache-2.0 OR MIT
pragma solidity 0.8.37;

import {SealcastLedger} from "./generated/SealcastLedger.sol";
import "./Site.sol";
import {vm} from "./Vm.sol";

/// Devices and keys: DEVICE_REGISTERED, DEVICE_REVOKED, KEYS_PUBLISHED, KEY_ROTATED.
contract DevicesTest is Site {
    uint256 internal constant P = 0xffffffff00000001000000000000000000000000ffffffffffffffffffffffff;

    // ---------------------------------------------------------------------------------------- DEVICE_REGISTERED

    function test_a_device_is_what_the_ca_says() public {
        refuseView(
            abi.encodeCall(ledger.device, (ledger.numberOf("pump"))),
            abi.encodeWithSelector(SealcastLedger.UnknownDevice.selector, ledger.numberOf("pump"))
        );
        address pump = device("pump");
        requireDevice(pump, "pump", true);
        vm.assertEq(ledger.keyOf(pump), xy(keyOf[pump]), "its key signs");
    }

    function test_another_key_makes_grants_void_and_another_certificate_does_not() public {
        uint16 plant = group("plant");
        address pump = member("pump", plant);
        take(
            DEVICE_REGISTERED,
            ca,
            abi.encode("pump", xy(keyOf[pump]), bytes32("renewed"), bytes(hex"02"), uint64(START + 900 days))
        );
        vm.assertTrue(ledger.granted(plant, pump), "granted with the same key");
        take(DEVICE_REGISTERED, ca, registration("pump", 99));
        vm.assertTrue(!ledger.granted(plant, pump), "not granted with another key");
        keyOf[pump] = 99;
        grant(plant, pump);
        vm.assertTrue(ledger.granted(plant, pump), "granted anew");
    }

    function test_a_revoked_device_comes_back_without_its_grants() public {
        uint16 plant = group("plant");
        address pump = member("pump", plant);
        take(DEVICE_REVOKED, operator, abi.encode(pump, "lost"));
        take(DEVICE_REGISTERED, ca, registration("pump", keyOf[pump]));
        requireDevice(pump, "pump", true);
        vm.assertTrue(!ledger.granted(plant, pump), "granted");
    }

    function test_names_of_devices() public {
        take(DEVICE_REGISTERED, ca, registration("A.z_0-9", 7));
        take(DEVICE_REGISTERED, ca, registration(text(64, "n"), 7));
        refuseName("", SealcastLedger.BadLength.selector, abi.encode("device", 0, 1, 64));
        refuseName(text(65, "n"), SealcastLedger.BadLength.selector, abi.encode("device", 65, 1, 64));
        refuseName(".hidden", SealcastLedger.BadText.selector, abi.encode("device", 0));
        refuseName("no space", SealcastLedger.BadText.selector, abi.encode("device", 2));
        refuseName(unicode"grün", SealcastLedger.BadText.selector, abi.encode("device", 2));
        string[4] memory reserved = ["root", "ca", "operator", "hub"];
        for (uint256 i = 0; i < reserved.length; i++) {
            refuseName(reserved[i], SealcastLedger.ReservedName.selector, abi.encode(reserved[i]));
        }
    }

    function test_keys_and_serials_of_devices() public {
        // A point of the curve with so small an x that x + P fits too: the same point modulo P.
        (uint256 x, uint256 y) = (5, 0x459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbcc);
        take(DEVICE_REGISTERED, ca, registration("pump", abi.encode(x, y), hex"01"));
        bytes[3] memory off = [abi.encode(x, y + 1), abi.encode(x + P, y), abi.encode(0, 0)];
        for (uint256 i = 0; i < off.length; i++) {
            refuse(
                DEVICE_REGISTERED,
                ca,
                registration("pump", off[i], hex"01"),
                abi.encodeWithSelector(SealcastLedger.BadPublicKey.selector)
            );
        }
        bytes4 badLength = SealcastLedger.BadLength.selector;
        refuse(
            DEVICE_REGISTERED,
            ca,
            registration("pump", new bytes(65), hex"01"),
            abi.encodeWithSelector(badLength, "publicKey", 65, 64, 64)
        );
        for (uint256 length = 0; length <= 33; length += 33) {
            refuse(
                DEVICE_REGISTERED,
                ca,
                registration("pump", xy(7), new bytes(length)),
                abi.encodeWithSelector(badLength, "serial", length, 1, 32)
            );
        }
        take(DEVICE_REGISTERED, ca, registration("pump", xy(7), new bytes(32)));
    }

    /// Nobody can find two names with one number, so the test changes the name that is stored.
    function test_a_number_belongs_to_one_name() public {
        address pump = device("pump");
        vm.record();
        ledger.device(pump);
        (bytes32[] memory reads,) = vm.accesses(address(ledger));
        // A short text: its bytes from the left, twice its length at the right.
        vm.store(address(ledger), reads[0], bytes32("lamp") | bytes32(uint256(2 * 4)));
        requireDevice(pump, "lamp", true);
        refuse(
            DEVICE_REGISTERED,
            ca,
            registration("pump", 7),
            abi.encodeWithSelector(SealcastLedger.NumberTaken.selector, pump, "lamp")
        );
    }

    // ------------------------------------------------------------------------------------------- DEVICE_REVOKED

    function test_a_revoked_device_does_nothing_any_more() public {
        uint16 plant = group("plant");
        address pump = member("pump", plant);
        take(DEVICE_REVOKED, ca, abi.encode(pump, unicode"stolen, gestohlen, 盗まれた, 🔑"));
        requireDevice(pump, "pump", false);
        vm.assertTrue(!ledger.granted(plant, pump), "granted");
        bytes memory notActive = abi.encodeWithSelector(SealcastLedger.NotActive.selector, pump);
        refuse(ANCHOR, pump, abi.encode(plant, bytes32("root"), uint32(1)), notActive);
        refuseView(abi.encodeCall(ledger.keyOf, (pump)), notActive);
    }

    function test_revocations_that_are_refused() public {
        address pump = device("pump");
        address lamp = ledger.numberOf("lamp");
        refuse(
            DEVICE_REVOKED,
            ca,
            abi.encode(lamp, ""),
            abi.encodeWithSelector(SealcastLedger.UnknownDevice.selector, lamp)
        );
        refuse(
            DEVICE_REVOKED,
            ca,
            abi.encode(pump, text(257, "r")),
            abi.encodeWithSelector(SealcastLedger.BadLength.selector, "reason", 257, 0, 256)
        );
        take(DEVICE_REVOKED, ca, abi.encode(pump, text(256, "r")));
        refuse(
            DEVICE_REVOKED,
            operator,
            abi.encode(pump, ""),
            abi.encodeWithSelector(SealcastLedger.AlreadyRevoked.selector, pump)
        );
    }

    /// What RFC 3629 leaves out, and control characters, each behind one good byte.
    function test_text_is_utf8_without_control_characters() public {
        address pump = device("pump");
        bytes[18] memory bad = [
            bytes(hex"00"),
            hex"0a",
            hex"1f",
            hex"7f",
            hex"80", // no beginning
            hex"c280", // U+0080
            hex"c29f", // U+009F
            hex"c1bf", // overlong
            hex"c3", // cut off
            hex"c328", // no continuation
            hex"e09fbf", // overlong
            hex"eda080", // U+D800
            hex"edbfbf", // U+DFFF
            hex"e282", // cut off
            hex"f08fbfbf", // overlong
            hex"f4908080", // U+110000
            hex"f5808080",
            hex"ff"
        ];
        for (uint256 i = 0; i < bad.length; i++) {
            refuse(
                DEVICE_REVOKED,
                ca,
                abi.encode(pump, bytes.concat("r", bad[i])),
                abi.encodeWithSelector(SealcastLedger.BadText.selector, "reason", 1)
            );
        }
        // The first and the last of each length: U+0020, U+007E, U+00A0, U+07FF, U+0800, U+D7FF, U+E000, U+10000, U+10FFFF.
        take(
            DEVICE_REVOKED,
            ca,
            abi.encode(pump, bytes(hex"207ec2a0dfbfe0a080ed9fbfee8080f0908080f48fbfbf"))
        );
    }

    // ------------------------------------------------------------------------------------------- KEYS_PUBLISHED

    function test_a_key_package_is_published_once() public {
        (address pump, address lamp) = (device("pump"), device("lamp"));
        take(KEYS_PUBLISHED, pump, abi.encode(bytes32("package"), certificateOf("pump"), true));
        vm.assertEq(ledger.keyPackageOwner("package"), pump, "keyPackageOwner");
        refuse(
            KEYS_PUBLISHED,
            lamp,
            abi.encode(bytes32("package"), certificateOf("lamp"), false),
            abi.encodeWithSelector(SealcastLedger.KeyPackageTaken.selector, bytes32("package"), pump)
        );
        refuse(
            KEYS_PUBLISHED,
            pump,
            abi.encode(bytes32("other"), certificateOf("lamp"), false),
            abi.encodeWithSelector(
                SealcastLedger.WrongCertificate.selector, certificateOf("pump"), certificateOf("lamp")
            )
        );
    }

    // ---------------------------------------------------------------------------------------------- KEY_ROTATED

    function test_the_root_replaces_the_cas_key_and_the_operator_its_own() public {
        uint64 nonce = ledger.nonceOf(ca);
        take(KEY_ROTATED, root, rotation(ca, 71));
        vm.assertEq(ledger.keyOf(ca), xy(71), "the CA's key");
        vm.assertEq(ledger.nonceOf(ca), nonce, "the CA's nonce");
        bytes memory pump = registration("pump", 7);
        refuse(DEVICE_REGISTERED, ca, pump, abi.encodeWithSelector(SealcastLedger.BadSignature.selector));
        keyOf[ca] = 71;
        take(DEVICE_REGISTERED, ca, pump);

        take(KEY_ROTATED, operator, rotation(operator, 72));
        keyOf[operator] = 72;
        group("plant");
        // A key that was given up is nobody's: it may be taken again.
        take(KEY_ROTATED, operator, rotation(operator, OPERATOR_KEY));
    }

    function test_nobody_gets_a_key_that_is_not_theirs_to_give() public {
        bytes memory notTheirs = abi.encodeWithSelector(SealcastLedger.NotAuthorized.selector, KEY_ROTATED, root);
        refuse(KEY_ROTATED, root, rotation(operator, 71), notTheirs);
        refuse(KEY_ROTATED, root, rotation(root, 71), notTheirs);
        notTheirs = abi.encodeWithSelector(SealcastLedger.NotAuthorized.selector, KEY_ROTATED, operator);
        refuse(KEY_ROTATED, operator, rotation(ca, 71), notTheirs);
    }

    function test_the_new_key_signs_and_is_new() public {
        bytes32 digest = sha256(
            abi.encodePacked("sealcast-takeover-v1", uint64(block.chainid), address(ledger), operator, xy(71))
        );
        vm.assertEq(ledger.takeoverOf(operator, xy(71)), digest, "takeoverOf");
        refuse(
            KEY_ROTATED,
            operator,
            abi.encode(operator, xy(71), sign(OPERATOR_KEY, digest)),
            abi.encodeWithSelector(SealcastLedger.BadProof.selector)
        );
        refuse(
            KEY_ROTATED,
            operator,
            abi.encode(operator, xy(71), new bytes(63)),
            abi.encodeWithSelector(SealcastLedger.BadLength.selector, "proof", 63, 64, 64)
        );
        uint256[3] memory used = [ROOT_KEY, CA_KEY, OPERATOR_KEY];
        address[3] memory by = [root, ca, operator];
        for (uint256 i = 0; i < used.length; i++) {
            refuse(
                KEY_ROTATED,
                operator,
                rotation(operator, used[i]),
                abi.encodeWithSelector(SealcastLedger.KeyInUse.selector, by[i])
            );
        }
    }

    // ---------------------------------------------------------------------------------------------------- parts

    function requireDevice(address number, string memory expected, bool isActive) private view {
        (string memory name, bytes memory key, bytes32 certificate, uint64 notAfter, bool active) =
            ledger.device(number);
        vm.assertEq(name, expected, "name");
        vm.assertEq(key, xy(keyOf[number]), "publicKey");
        vm.assertEq(certificate, certificateOf("pump"), "certificate");
        vm.assertEq(notAfter, START + 365 days, "notAfter");
        vm.assertTrue(active == isActive, "active");
    }

    function refuseName(string memory name, bytes4 selector, bytes memory words) private {
        refuse(DEVICE_REGISTERED, ca, registration(name, 7), bytes.concat(selector, words));
    }
}
