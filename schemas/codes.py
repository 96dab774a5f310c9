"""Which stable code names what went wrong? One table: the word, and its one-line public meaning.

A code, once released, never changes its meaning; a new situation gets a new code.
"""

from __future__ import annotations

from enum import StrEnum


class ErrorCode(StrEnum):
    """Stable dotted words; the text beside each is its public meaning (``.meaning``)."""

    _value_: str
    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> ErrorCode:
        """Keep the one-line meaning beside the value."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    # --- config: the person at the keyboard must act --------------------------------------------
    CONFIG_MISSING = "config.missing", "A configuration file is missing."
    CONFIG_INVALID = "config.invalid", "A setting has a value that is not allowed."
    CONFIG_UNKNOWN_KEY = "config.unknown_key", "A setting has a name that is not known."
    CONFIG_USAGE = "config.usage", "The command was called with arguments that do not fit together."
    CONFIG_HOME_MISSING = "config.home_missing", "The home folder has not been initialised."
    CONFIG_HOME_EXISTS = "config.home_exists", "The home folder is already initialised."
    CONFIG_FILE_MISSING = "config.file_missing", "A file named on the command line does not exist."
    CONFIG_FILE_UNWRITABLE = (
        "config.file_unwritable",
        "A file named on the command line cannot be written.",
    )
    CONFIG_PORT_IN_USE = "config.port_in_use", "A configured port is taken by another process."
    CONFIG_ALREADY_RUNNING = "config.already_running", "The service runs already on this home."
    CONFIG_NOT_RUNNING = "config.not_running", "The service does not run on this home."
    CONFIG_HARDENING_MISSING = (
        "config.hardening_missing",
        "A switch-off of telemetry, update checks or run-time installs is not in force.",
    )
    KEY_MISSING = "key.missing", "A key file is missing."
    KEY_INVALID = "key.invalid", "A key file cannot be read as the expected kind of key."
    KEY_PERMISSIONS = "key.permissions", "A key file can be read by other users."

    # --- document: bytes from outside are not the document they claim to be ---------------------
    DOCUMENT_TOO_LARGE = "document.too_large", "The document is larger than its limit."
    DOCUMENT_NOT_UTF8 = "document.not_utf8", "The document is not UTF-8 text."
    DOCUMENT_MALFORMED = "document.malformed", "The document is not well-formed JSON."
    DOCUMENT_NOT_CANONICAL = "document.not_canonical", "The document is not in canonical form."
    DUPLICATE_KEY = "document.duplicate_key", "A key occurs twice in one JSON object."
    FIELD_UNKNOWN = "document.field_unknown", "The document has a field that is not known."
    FIELD_MISSING = "document.field_missing", "The document lacks a required field."
    FIELD_INVALID = "document.field_invalid", "A field of the document has a refused value."
    VERSION_UNKNOWN = "document.version_unknown", "The document's version is not known here."
    DOCUMENT_UNKNOWN = "document.unknown", "No document with this digest is known."

    # --- signature and identity -----------------------------------------------------------------
    SIGNATURE_INVALID = "signature.invalid", "The signature does not fit the document."
    SIGNER_UNEXPECTED = "signature.signer_unexpected", "The document is signed by another key."
    CARD_INVALID = "identity.card_invalid", "The identity card is not signed by its own key."
    CARD_SITE_MISMATCH = "identity.card_site_mismatch", "The identity card is of another site."
    FINGERPRINT_MISMATCH = (
        "identity.fingerprint_mismatch",
        "The fingerprint given is not that of the card.",
    )
    PEER_UNKNOWN = "identity.peer_unknown", "No identity card of this peer was imported."
    PEER_UNCONFIRMED = "identity.peer_unconfirmed", "The peer's fingerprint was not confirmed."
    PEER_KEY_SUBSTITUTED = (
        "identity.peer_key_substituted",
        "A peer's key differs from the one on the confirmed identity card.",
    )
    PEER_EXISTS = "identity.peer_exists", "Another card of this peer was imported before."
    OWN_KEY_WRONG = "identity.own_key_wrong", "The plan does not hold this site's own keys."
    KEM_SECRET_MISSING = (
        "identity.kem_secret_missing",
        "The post-quantum secret shared with a site of a hybrid plan is not at hand.",
    )
    KEM_SECRET_UNREADABLE = (
        "identity.kem_secret_unreadable",
        "A stored ML-KEM-768 secret cannot be read with this site's key.",
    )
    KEM_APPROVAL_FOREIGN = (
        "identity.kem_approval_foreign",
        "This site's approval carries ciphertexts that this site does not remember making.",
    )

    # --- enrolment ------------------------------------------------------------------------------
    INVITE_UNKNOWN = "invite.unknown", "The invite code is not known."
    INVITE_USED = "invite.used", "The invite code was used before."
    INVITE_EXPIRED = "invite.expired", "The invite code has expired."
    INVITE_OTHER_SITE = "invite.other_site", "The invite code was made for another site."
    INVITE_INVALID = "invite.invalid", "The invite file is not consistent in itself."
    ENROLMENT_INVALID = "enrolment.invalid", "The enrolment request is not consistent."
    ENROLMENT_REQUEST_CERTIFICATE_INVALID = (
        "enrolment.csr_invalid",
        "The certificate request is malformed or does not fit the site.",
    )
    ENROLMENT_EXISTS = "enrolment.exists", "The site is enrolled already."
    ENROLMENT_KEY_SUBSTITUTED = (
        "enrolment.key_substituted",
        "The site is enrolled with another identity key.",
    )
    ENROLMENT_KEY_TAKEN = "enrolment.key_taken", "Another site is enrolled with one of these keys."
    ENROLMENT_MISSING = "enrolment.missing", "The site is not enrolled."
    ENROLMENT_RESPONSE_INVALID = (
        "enrolment.response_invalid",
        "The coordinator's enrolment response does not fit the request.",
    )

    # --- plan, approval, stop -------------------------------------------------------------------
    PLAN_TAMPERED = "plan.tampered", "The plan's bytes are not those that were signed."
    PLAN_HASH_MISMATCH = "plan.hash_mismatch", "The plan's digest is not the one that was named."
    PLAN_INVALID = "plan.invalid", "The plan contradicts itself."
    PLAN_EXPIRED = "plan.expired", "The plan has expired."
    PLAN_NOT_YET_VALID = "plan.not_yet_valid", "The plan's date of creation lies in the future."
    PLAN_UNKNOWN = "plan.unknown", "No plan with this digest is known."
    PLAN_UNAPPROVED = "plan.unapproved", "This site has not approved the plan."
    PLAN_STOPPED = "plan.stopped", "This site has stopped the plan."
    PLAN_REFUSED = "plan.refused", "This site has refused the plan."
    PLAN_ALREADY_APPROVED = "plan.already_approved", "This site has approved the plan before."
    PLAN_SITE_ABSENT = "plan.site_absent", "The plan does not name this site."
    PLAN_VENDOR_UNKNOWN = "plan.vendor_unknown", "The plan is signed by a vendor not known here."
    PLAN_DATA_MISSING = "plan.data_missing", "No ingested data fit the plan at this site."
    PLAN_DEID_PROFILE_MISMATCH = (
        "plan.deid_profile_mismatch",
        "The plan names another de-identification profile than the one used here.",
    )
    PLAN_DELTA_PATIENTS = (
        "plan.delta_patients",
        "The plan's delta is too large for the number of patients at this site.",
    )
    APPROVAL_INVALID = "approval.invalid", "The approval does not fit the plan."
    APPROVER_WRONG = "approval.approver_wrong", "The approval is signed by a key not in the plan."
    APPROVAL_MISSING = "approval.missing", "Too few sites have approved the plan."
    APPROVAL_OTHER_PLAN = "approval.other_plan", "The approval is for another plan."
    APPROVAL_PEERS_INCOMPLETE = (
        "approval.peers_incomplete",
        "The approval does not confirm every other site of the plan.",
    )
    APPROVAL_ENCAPSULATIONS_WRONG = (
        "approval.encapsulations_wrong",
        "The approval does not carry exactly the ML-KEM-768 ciphertexts the plan asks for.",
    )
    FLOOR_EPSILON = "floor.epsilon", "The plan spends more privacy than this site allows."
    FLOOR_DELTA = "floor.delta", "The plan's delta is larger than this site allows."
    FLOOR_COHORT_MINIMUM = "floor.cohort_minimum", "The plan's cohort minimum is below the floor."
    FLOOR_COLLUSION = "floor.collusion", "The plan's collusion bound is below the floor."
    FLOOR_OUTPUT = "floor.output", "The plan asks for an output this site does not release."
    FLOOR_EXPIRY = "floor.expiry", "The plan runs longer than this site allows."
    FLOOR_AGGREGATION = "floor.aggregation", "This site does not take part in this way of adding."

    # --- messages -------------------------------------------------------------------------------
    MESSAGE_MALFORMED = "message.malformed", "The message cannot be parsed."
    MESSAGE_OVERSIZED = "message.oversized", "The message is larger than its limit."
    MESSAGE_LENGTH_WRONG = "message.length_wrong", "The message has not the exact length expected."
    MESSAGE_UNKNOWN = "message.unknown", "The message is of a type not known here."
    MESSAGE_KIND_UNKNOWN = "document.kind_unknown", "A document is of a kind not known here."
    MESSAGE_REPLAYED = "message.replayed", "The message was seen before."
    MESSAGE_OUT_OF_ORDER = "message.out_of_order", "The message does not come at this point."
    MESSAGE_OTHER_SITE = "message.other_site", "The message is of another site than its sender."
    PIECES_OUT_OF_ORDER = (
        "message.pieces_out_of_order",
        "A piece of the message is missing, repeated or not in its place.",
    )
    PIECES_CHANGED = "message.pieces_changed", "The pieces have not the hash announced for them."

    # --- cohort and secure sum ------------------------------------------------------------------
    COHORT_TOO_SMALL = "cohort.too_small", "The cohort has fewer sites than the plan's minimum."
    COHORT_DUPLICATE_MEMBER = "cohort.duplicate_member", "A site occurs twice in the cohort."
    COHORT_MEMBER_UNKNOWN = "cohort.member_unknown", "The cohort has a site not in the plan."
    COHORT_MEMBER_UNAPPROVED = (
        "cohort.member_unapproved",
        "The cohort has a site whose approval is not known here.",
    )
    COHORT_OWN_READY_MISSING = "cohort.own_ready_missing", "The cohort lacks this site's READY."
    COHORT_OWN_READY_ALTERED = (
        "cohort.own_ready_altered",
        "This site's READY in the cohort is not the one it issued.",
    )
    COHORT_READY_STALE = (
        "cohort.ready_stale",
        "The secrets of this READY are gone (restart or newer attempt); a new attempt is needed.",
    )
    COHORT_PLAN_MISMATCH = "cohort.plan_mismatch", "A READY is for another plan."
    COHORT_KIND_MISMATCH = "cohort.kind_mismatch", "A READY is for another kind of attempt."
    COHORT_ROUND_MISMATCH = "cohort.round_mismatch", "A READY is for another round or attempt."
    COHORT_MODEL_MISMATCH = "cohort.model_mismatch", "A READY is bound to another model."
    COHORT_LAST_SUM_MISMATCH = "cohort.last_sum_mismatch", "A READY is bound to another last sum."
    COHORT_KEY_INVALID = "cohort.key_invalid", "A round key is malformed or of low order."
    COHORT_SHARE_INVALID = "cohort.share_invalid", "A peer's group share cannot be opened."
    COHORT_SHARE_MISSING = "cohort.share_missing", "A peer's group share is missing."
    COHORT_MODE_MISMATCH = (
        "cohort.mode_mismatch",
        "A READY does not fit the plan's mode of aggregation.",
    )
    SURVIVORS_STRANGER = "recovery.stranger", "A survivor is not a member of the cohort."
    SURVIVORS_TOO_FEW = "recovery.too_few", "Too few hospitals survive for a sum to be shown."
    SURVIVORS_OWN_UPLOAD = (
        "recovery.own_upload",
        "This site is not among the survivors, or with an upload it did not send.",
    )
    SURVIVORS_CHANGED = "recovery.survivors_changed", "Another list of survivors was signed before."
    CONFIRMATIONS_TOO_FEW = (
        "recovery.confirmations_too_few",
        "Too few sites confirmed the same list of survivors.",
    )
    RECOVERY_NOT_OFFERED = "recovery.not_offered", "The plan does not sum in recoverable mode."
    RECOVERY_DONE = "recovery.done", "This attempt was unmasked before."
    RECOVERY_FAILED = "recovery.failed", "The answers do not suffice to unmask the sum."
    SUM_ALTERED = "sum.altered", "The sum is not the sum of what the sites sent."
    SUM_MALFORMED = "sum.malformed", "The sum has not the expected shape."
    SUM_MISMATCH = "sum.mismatch", "A second, different sum was sent for the same round."
    SUM_UNVERIFIABLE = "sum.unverifiable", "The secrets to check this sum are not at hand."
    SUM_MISSING = "sum.missing", "The sum of an earlier round is missing."
    VECTOR_OUT_OF_RANGE = "sum.vector_out_of_range", "A vector does not fit its integer range."
    VECTOR_SHAPE = "sum.vector_shape", "A vector has not the length the plan fixes."
    VECTOR_NOT_FINITE = "sum.vector_not_finite", "A vector holds a value that is not finite."
    SECRETS_SPENT = "sum.secrets_spent", "The secrets of this attempt were used or erased."

    # --- attempts and rounds --------------------------------------------------------------------
    ATTEMPT_UNKNOWN = "attempt.unknown", "The attempt is not known."
    ATTEMPT_SPENT = "attempt.spent", "The attempt was used before; it cannot be repeated."
    ATTEMPT_VOID = "attempt.void", "The attempt is void and stays charged."
    ATTEMPT_SITE_LEFT = "attempt.site_left", "A site left in the middle of the attempt."
    ROUND_UNKNOWN = "round.unknown", "The round lies outside the plan's steps."
    BUNDLE_UNKNOWN = "bundle.unknown", "The app bundle is not the one the approved plan names."
    STATE_MISMATCH = "round.state_mismatch", "The model state is not the one the round starts from."
    WEIGHTS_MISMATCH = "weights.mismatch", "The initial weights are not those the plan names."
    WEIGHTS_MALFORMED = "weights.malformed", "The weights cannot be read."
    WEIGHTS_MISSING = "weights.missing", "The initial weights have not arrived."
    WEIGHTS_TOO_LARGE = "weights.too_large", "The vendor's own weights are larger than travels."
    WEIGHTS_UNFIT = "weights.unfit", "The vendor's own weights do not fit the architecture."
    PREPARATION_MISSING = "round.preparation_missing", "The preparation's sum is not here yet."
    MODEL_UNTRAINED = "model.untrained", "No step of the study's training was applied here yet."

    # --- ledger and audit -----------------------------------------------------------------------
    LEDGER_INSUFFICIENT = "ledger.insufficient", "The privacy budget left does not cover the plan."
    LEDGER_UNWRITABLE = "ledger.unwritable", "The ledger cannot be written; nothing leaves."
    LEDGER_ROLLBACK = "ledger.rollback", "A ledger was restored from an older copy."
    LEDGER_BROKEN = "ledger.broken", "The ledger's chain does not verify."
    LEDGER_DUPLICATE_CHARGE = "ledger.duplicate_charge", "The attempt was charged before."
    LEDGER_OUT_OF_ORDER = "ledger.out_of_order", "A charge is older than one already written."
    LEDGER_NOT_RESERVED = "ledger.not_reserved", "No reservation covers this charge."
    LEDGER_DUPLICATE_RESERVE = "ledger.duplicate_reserve", "The plan was reserved before."
    LEDGER_RESERVE_SPENT = "ledger.reserve_spent", "Every reserved attempt is charged."
    LEDGER_SETTLED = "ledger.settled", "The plan is settled; it cannot be charged."
    LEDGER_ENTRY_UNKNOWN = "ledger.entry_unknown", "The ledger holds an entry of unknown kind."
    LEDGER_DELTA_SPENT = "ledger.delta_spent", "The deltas of all plans would exceed their limit."
    LEDGER_WITNESS_ROLLBACK = "ledger.witness_rollback", "The ledger is not what its witness saw."
    LEDGER_WITNESS_MISSING = "ledger.witness_missing", "The witness of a ledger is not there."
    LEDGER_EXPORT_INVALID = "ledger.export_invalid", "The exported ledger does not verify."
    ACCOUNTING_UNSUPPORTED = "privacy.unsupported", "The mechanism cannot be accounted."
    ACCOUNTING_UNREACHABLE = "privacy.unreachable", "No noise level reaches the privacy asked for."
    ACCOUNTING_MISMATCH = (
        "privacy.mismatch",
        "The plan's epsilon is smaller than what its noise gives.",
    )
    NOISE_OUT_OF_RANGE = "privacy.noise_out_of_range", "The noise level is outside the sampler."
    AUDIT_UNAVAILABLE = "audit.unavailable", "The audit log cannot be written; nothing leaves."
    AUDIT_BROKEN = "audit.broken", "The audit log's chain does not verify."

    # --- egress ---------------------------------------------------------------------------------
    EGRESS_KIND_REFUSED = "egress.kind_refused", "This kind of output is not allowed by the plan."
    EGRESS_SIZE_WRONG = "egress.size_wrong", "The output has not exactly the expected size."
    EGRESS_NOT_CHARGED = "egress.not_charged", "The output has no ledger charge."
    EGRESS_STOPPED = "egress.stopped", "The study was stopped; nothing more leaves."
    EGRESS_TOO_FEW = "egress.too_few", "Too few sites or patients stand behind the output."
    EGRESS_NOT_LISTED = "egress.not_listed", "The object is not on the signed manifest."
    EGRESS_ALREADY_RELEASED = "egress.already_released", "This output was released before."
    EGRESS_TOO_EARLY = "egress.too_early", "The step that must come before it was not released."
    EGRESS_UNMASKS_MORE = "egress.unmasks_more", "The output would unmask more than one sum."

    # --- ingest: the data must be corrected at the hospital -------------------------------------
    SOURCE_MISSING = "ingest.source_missing", "The source folder or file does not exist."
    SOURCE_EMPTY = "ingest.source_empty", "The source holds no record."
    FILE_EMPTY = "ingest.file_empty", "The file is empty."
    FILE_UNREADABLE = "ingest.file_unreadable", "The file cannot be read."
    FILE_TOO_LARGE = "ingest.file_too_large", "The file is larger than its limit."
    FILE_ENCODING = "ingest.file_encoding", "The file's text encoding is not supported."
    FILE_NOT_DICOM = "ingest.file_not_dicom", "The file is not DICOM."
    COLUMN_MISSING = "ingest.column_missing", "A column of the contract is missing."
    COLUMN_DUPLICATE = "ingest.column_duplicate", "A column occurs twice."
    ROW_MALFORMED = "ingest.row_malformed", "A row has the wrong number of cells."
    ROW_INCOMPLETE = "ingest.row_incomplete", "A required value is missing."
    ROW_DUPLICATE = "ingest.row_duplicate", "A row occurs twice."
    VALUE_TYPE = "ingest.value_type", "A value has the wrong type."
    VALUE_RANGE = "ingest.value_range", "A value lies outside the contract's range."
    VALUE_CODE_UNKNOWN = "ingest.value_code_unknown", "A value is not among the contract's codes."
    VALUE_MISSING = "ingest.value_missing", "An optional value is missing; the plan fills it."
    VALUE_SUSPICIOUS = "ingest.value_suspicious", "A value looks like a stand-in for missing."
    SPLIT_UNKNOWN = "ingest.split_unknown", "A row is in neither train nor test."
    SPLIT_OVERLAP = "ingest.split_overlap", "A patient occurs in train and in test."
    PATIENT_MISSING = "ingest.patient_missing", "A record has no patient identifier."
    CLASS_COUNT_LOW = "ingest.class_count_low", "A class is rare among the test rows."
    DICOM_UNREADABLE = "ingest.dicom_unreadable", "A DICOM file cannot be read."
    DICOM_PIXELS_UNSUPPORTED = "ingest.dicom_pixels", "A DICOM file's pixels are not supported."
    DICOM_DUPLICATE = "ingest.dicom_duplicate", "A patient's SOP instance occurs twice."
    DICOM_CLASS_UNKNOWN = "ingest.dicom_class", "A DICOM object is of a class not accepted here."
    DICOM_SHAPE = "ingest.dicom_shape", "An image has not the size the study asks for."
    DICOM_BURNED_IN = "ingest.dicom_burned_in", "An image is declared to carry identity in pixels."
    DICOM_CLASS_PRIVATE = "ingest.dicom_class_private", "A DICOM object is of a private class."
    DICOM_CLASS_MISSING = "ingest.dicom_class_missing", "A DICOM object does not state its class."
    DICOM_DIRECTORY = "ingest.dicom_directory", "A DICOMDIR lists patients; make a new one instead."
    DICOM_SYNTAX_UNKNOWN = (
        "ingest.dicom_syntax",
        "A DICOM file's transfer syntax is not known here.",
    )
    DICOM_PIXELS_UNDECODABLE = "ingest.dicom_undecodable", "An image's pixels cannot be decoded."
    DICOM_FACE_HEAD = "ingest.dicom_face", "A head image from which a face could be rebuilt."
    DICOM_FACE_UNSTATED = (
        "ingest.dicom_face_unstated",
        "A volume image that does not state its body part.",
    )
    TEXT_DETECTION_MISSING = (
        "ingest.text_detection_missing",
        "An image may carry burned-in text, and text detection is not installed.",
    )
    DICOM_REDACTION_TOO_LARGE = (
        "ingest.dicom_redaction_too_large",
        "More of an image would have to be blanked than the profile allows.",
    )
    DICOM_OUTPUT_INVALID = "ingest.dicom_output_invalid", "A cleaned DICOM object failed its check."
    TEST_PATIENT_REPEATED = (
        "ingest.test_patient_repeated",
        "A patient has more than one test record.",
    )
    IMAGE_WITHOUT_LABEL = "ingest.image_without_label", "An image has no label."
    LABEL_WITHOUT_IMAGE = "ingest.label_without_image", "A label has no image."
    LABEL_CONFLICT = "ingest.label_conflict", "An image has two different labels."
    IDENTIFIER_LEFT = "ingest.identifier_left", "A known identifier is still in the output."
    DEID_PROFILE_INVALID = "deid.profile_invalid", "The de-identification profile is not usable."
    DEID_SECRET_INVALID = "deid.secret_invalid", "The de-identification secret is not usable."
    DEID_OUTPUT_OTHER = "deid.output_other", "The output folder belongs to another run."
    DEID_MAPPING_INVALID = "deid.mapping_invalid", "The mapping cannot be opened with this key."
    STORE_TAMPERED = "store.tampered", "The store's files are not those that were written."
    STORE_MISSING = "store.missing", "The store has no data for this study."
    STORE_KEY_WRONG = "store.key_wrong", "The store cannot be opened with this key."
    STORE_UNWRITABLE = "store.unwritable", "The store cannot be written."
    STORE_TERMS_OTHER = "store.terms_other", "The stored rows passed another data contract."
    SNAPSHOT_CHANGED = "store.snapshot_changed", "The data changed since the study began."
    FEATURES_INVALID = "training.features_invalid", "The stored rows do not give the features."
    TRAINING_LAYER_REFUSED = (
        "training.layer_refused",
        "A layer of the network could mix patients, or gives no gradient per patient.",
    )

    # --- evaluation -----------------------------------------------------------------------------
    EVALUATION_ROSTER_CHANGED = (
        "evaluation.roster_changed",
        "An evaluation may be retried only with the identical sites.",
    )
    EVALUATION_CLASS_SMALL = "evaluation.class_small", "A class has too few test patients."
    EVALUATION_VECTOR_INVALID = "evaluation.vector_invalid", "The evaluation's sum is impossible."
    RELEASE_MISMATCH = "release.mismatch", "The sites did not sign the same release."
    RELEASE_UNSIGNED = "release.unsigned", "The release lacks a site's signature."
    FINAL_MISMATCH = "final.mismatch", "The sites did not sign the same final model."

    # --- transport ------------------------------------------------------------------------------
    TRANSPORT_UNREACHABLE = "transport.unreachable", "The other side cannot be reached."
    TRANSPORT_TIMEOUT = "transport.timeout", "The other side did not answer in time."
    TRANSPORT_CLOSED = "transport.closed", "The connection was closed."
    TRANSPORT_RESPONSE_INVALID = "transport.response_invalid", "The answer cannot be understood."
    TRANSPORT_TOO_LARGE = "transport.too_large", "The body is larger than the path allows."
    TRANSPORT_PATH_FORBIDDEN = "transport.path_forbidden", "The path or method is not allowed."
    TLS_UNTRUSTED = "transport.tls_untrusted", "The other side's certificate is not trusted."
    CERTIFICATE_EXPIRED = "transport.certificate_expired", "The certificate has expired."
    NODE_UNKNOWN = "transport.node_unknown", "The node is not registered."
    NODE_OFFLINE = "transport.node_offline", "The node is not connected."
    NODE_REPLY_INVALID = "transport.node_reply_invalid", "The node's reply cannot be read."
    TOKEN_INVALID = "transport.token_invalid", "The access token is missing or wrong."

    TOKEN_ROLE = "transport.token_role", "The access token allows reading only."

    # --- studies at the coordinator -------------------------------------------------------------
    STUDY_UNKNOWN = "study.unknown", "No study with this name is known."
    STUDY_EXISTS = "study.exists", "A study with this name exists already."
    STUDY_STATE = "study.state", "The study is not in a state that allows this."
    STUDY_NO_RESULT = "study.no_result", "The study has no result yet."
    STUDY_NO_MODEL = "study.no_model", "The study has no final model yet."
    STUDY_TOO_FEW_SITES = "study.too_few_sites", "Fewer sites are ready than the plan needs."
    STUDY_WAITING_APPROVAL = "study.waiting_approval", "A site has not approved the plan yet."
    STUDY_ENDED_EARLY = "study.ended_early", "The study ended before its last step."
    STUDY_QUORUM_LOST = "study.quorum_lost", "Fewer sites remain than the plan's minimum."
    STUDY_RETRIES_SPENT = "study.retries_spent", "The study ended: the plan's retries are used up."
    SITE_OFFLINE = "site.offline", "The site is not connected."
    SITE_UNREACHABLE = "site.unreachable", "The site did not answer."
    SITE_BEHIND = "site.behind", "The site lacks the sums of earlier rounds."
    SITE_UNKNOWN = "site.unknown", "No site with this name is known."

    # --- internal: we must act ------------------------------------------------------------------
    INTERNAL_UNEXPECTED = "internal.unexpected", "Something went wrong that should not."
    INTERNAL_DATABASE = "internal.database", "The local database cannot be used."
    INTERNAL_DISK_FULL = "internal.disk_full", "The disk is full."
    INTERNAL_PROCESS_ENDED = "internal.process_ended", "A supervised process ended unexpectedly."
    INTERNAL_CLOCK = "internal.clock", "The clock is not plausible."
