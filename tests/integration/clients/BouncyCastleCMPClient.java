// SPDX-License-Identifier: MIT
//
// Enrolls, updates and revokes by CMP with BouncyCastle's classes.
//
// Usage: BouncyCastleCMPClient URL ROOT.pem OUT_DIRECTORY
//            REFERENCE SECRET REFERENCE SECRET
// Prints one line for each step; exits with a status other than 0 on the
// first failure.  Every answer's protection is verified.

import java.io.File;
import java.io.FileInputStream;
import java.io.FileWriter;
import java.io.OutputStream;
import java.math.BigInteger;
import java.net.HttpURLConnection;
import java.net.URL;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertPathBuilder;
import java.security.cert.CertStore;
import java.security.cert.CertificateFactory;
import java.security.cert.CollectionCertStoreParameters;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.TrustAnchor;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.security.spec.ECGenParameterSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Date;
import java.util.List;
import org.bouncycastle.asn1.ASN1Encodable;
import org.bouncycastle.asn1.ASN1Integer;
import org.bouncycastle.asn1.ASN1Sequence;
import org.bouncycastle.asn1.DERNull;
import org.bouncycastle.asn1.cmp.CMPObjectIdentifiers;
import org.bouncycastle.asn1.cmp.CertRepMessage;
import org.bouncycastle.asn1.cmp.CertResponse;
import org.bouncycastle.asn1.cmp.ErrorMsgContent;
import org.bouncycastle.asn1.cmp.GenMsgContent;
import org.bouncycastle.asn1.cmp.GenRepContent;
import org.bouncycastle.asn1.cmp.InfoTypeAndValue;
import org.bouncycastle.asn1.cmp.PKIBody;
import org.bouncycastle.asn1.cmp.PKIFailureInfo;
import org.bouncycastle.asn1.cmp.PKIHeader;
import org.bouncycastle.asn1.cmp.PKIStatusInfo;
import org.bouncycastle.asn1.cmp.RevDetails;
import org.bouncycastle.asn1.cmp.RevRepContent;
import org.bouncycastle.asn1.cmp.RevReqContent;
import org.bouncycastle.asn1.crmf.CertReqMessages;
import org.bouncycastle.asn1.crmf.CertTemplateBuilder;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x500.X500NameBuilder;
import org.bouncycastle.asn1.x500.style.BCStyle;
import org.bouncycastle.asn1.x509.CRLReason;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.ExtensionsGenerator;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.GeneralNames;
import org.bouncycastle.asn1.x509.SubjectKeyIdentifier;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.cmp.CertificateConfirmationContentBuilder;
import org.bouncycastle.cert.cmp.GeneralPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessageBuilder;
import org.bouncycastle.cert.crmf.PKMACBuilder;
import org.bouncycastle.cert.crmf.jcajce.JcaCertificateRequestMessageBuilder;
import org.bouncycastle.cert.crmf.jcajce.JcePKMACValuesCalculator;
import org.bouncycastle.cert.jcajce.JcaX509CertificateConverter;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.operator.MacCalculator;
import org.bouncycastle.operator.PBEMacCalculatorProvider;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaContentVerifierProviderBuilder;
import org.bouncycastle.operator.jcajce.JcaDigestCalculatorProviderBuilder;
import org.bouncycastle.pkcs.jcajce.JcePBMac1CalculatorBuilder;
import org.bouncycastle.pkcs.jcajce.JcePBMac1CalculatorProviderBuilder;

public class BouncyCastleCMPClient {
    static final GeneralName CA = new GeneralName(new X500Name("CN=CA"));
    static final SecureRandom random = new SecureRandom();
    static URL url;
    static X509Certificate root;

    public static void main(String[] args) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        url = new URL(args[0]);
        try (FileInputStream in = new FileInputStream(args[1])) {
            root = (X509Certificate) CertificateFactory.getInstance("X.509")
                .generateCertificate(in);
        }
        File out = new File(args[2]);

        // ir, confirmed by certConf, under PBMAC1.
        KeyPair key = newKey();
        Conversation talk =
            new Conversation(new PBMAC1(args[3], args[4]));
        X509CertificateHolder first = talk.enroll(
            PKIBody.TYPE_INIT_REQ, request("bc-cmp", key), true);
        write(out, "bc-cmp-first.pem", first);
        System.out.println("ir PBMAC1 " + first.getSerialNumber());

        // ir, confirmed implicitly, under PasswordBasedMac.
        KeyPair otherKey = newKey();
        talk = new Conversation(new PasswordBasedMac(args[5], args[6]));
        X509CertificateHolder other = talk.enroll(
            PKIBody.TYPE_INIT_REQ, request("bc-cmp-other", otherKey), false);
        write(out, "bc-cmp-other.pem", other);
        System.out.println("ir PasswordBasedMac " + other.getSerialNumber());

        // kur of the first, with another key, signed by the first.
        KeyPair nextKey = newKey();
        talk = new Conversation(new Signature(first, key));
        X509CertificateHolder next = talk.enroll(
            PKIBody.TYPE_KEY_UPDATE_REQ, request("bc-cmp", nextKey), true);
        write(out, "bc-cmp-next.pem", next);
        check(!next.getSerialNumber().equals(first.getSerialNumber()),
            "the update is not new");
        System.out.println("kur " + next.getSerialNumber());

        // rr by the certificate that is to be revoked.
        talk = new Conversation(new Signature(next, nextKey));
        talk.revoke(next, CRLReason.cessationOfOperation);
        System.out.println("rr " + next.getSerialNumber());

        // genm, signed by the other.
        talk = new Conversation(new Signature(other, otherKey));
        System.out.println("genm caCerts " + talk.caCertificates());

        // A wrong secret: the refusal is signed.
        talk = new Conversation(new PBMAC1(args[5], "wrong"));
        System.out.println("refused " + talk.refusal(
            request("bc-cmp-wrong", newKey())));
    }

    // --- one transaction ----------------------------------------------------

    /** The messages of one transaction, all protected alike. */
    static class Conversation {
        final Protection protection;
        final byte[] transaction = bytes(16);
        byte[] recipNonce;
        boolean implicit;

        Conversation(Protection protection) {
            this.protection = protection;
        }

        /** Enrolls; confirms by certConf, or asks to do without. */
        X509CertificateHolder enroll(
                int type, CertReqMessages request, boolean confirming)
                throws Exception {
            implicit = !confirming;
            ProtectedPKIMessage answer = send(type, request);
            // Each reply follows its request, by number.
            CertRepMessage reply = CertRepMessage.getInstance(
                content(answer, type + 1));
            check(1 == reply.getResponse().length, "not one response");
            CertResponse response = reply.getResponse()[0];
            granted(response.getStatus());
            check(0 == response.getCertReqId().intValueExact(), "certReqId");
            X509CertificateHolder certificate = new X509CertificateHolder(
                response.getCertifiedKeyPair().getCertOrEncCert()
                .getCertificate().getX509v3PKCert());
            trusted(certificate, answer.getCertificates());
            check(implicit == granted(answer), "implicitConfirm");
            if (confirming) {
                content(send(
                    PKIBody.TYPE_CERT_CONFIRM,
                    new CertificateConfirmationContentBuilder()
                    .addAcceptedCertificate(certificate, BigInteger.ZERO)
                    .build(new JcaDigestCalculatorProviderBuilder().build())
                    .toASN1Structure()), PKIBody.TYPE_CONFIRM);
            }
            return certificate;
        }

        /** Revokes a certificate. */
        void revoke(X509CertificateHolder certificate, int reason)
                throws Exception {
            ExtensionsGenerator entry = new ExtensionsGenerator();
            entry.addExtension(
                Extension.reasonCode, false, CRLReason.lookup(reason));
            RevDetails details = new RevDetails(
                new CertTemplateBuilder()
                .setIssuer(certificate.getIssuer())
                .setSerialNumber(new ASN1Integer(
                    certificate.getSerialNumber()))
                .build(), entry.generate());
            RevRepContent reply = RevRepContent.getInstance(content(
                send(PKIBody.TYPE_REVOCATION_REQ, new RevReqContent(details)),
                PKIBody.TYPE_REVOCATION_REP));
            check(1 == reply.getStatus().length, "not one status");
            granted(reply.getStatus()[0]);
        }

        /** Returns the number of CA certificates that genp has. */
        int caCertificates() throws Exception {
            GenRepContent reply = GenRepContent.getInstance(content(
                send(PKIBody.TYPE_GEN_MSG, new GenMsgContent(
                    new InfoTypeAndValue(CMPObjectIdentifiers.id_it_caCerts))),
                PKIBody.TYPE_GEN_REP));
            return ASN1Sequence.getInstance(
                reply.toInfoTypeAndValueArray()[0].getInfoValue()).size();
        }

        /** Returns the failInfo of a request that must be refused. */
        String refusal(CertReqMessages request) throws Exception {
            ErrorMsgContent error = ErrorMsgContent.getInstance(content(
                send(PKIBody.TYPE_INIT_REQ, request), PKIBody.TYPE_ERROR));
            int failure = new PKIFailureInfo(
                error.getPKIStatusInfo().getFailInfo()).intValue();
            check(PKIFailureInfo.badMessageCheck == failure, "failInfo");
            return "badMessageCheck";
        }

        /** Sends a message; returns the answer, once it is verified. */
        ProtectedPKIMessage send(int type, ASN1Encodable content)
                throws Exception {
            byte[] nonce = bytes(16);
            ProtectedPKIMessageBuilder builder =
                new ProtectedPKIMessageBuilder(protection.sender(), CA)
                .setTransactionID(transaction)
                .setSenderNonce(nonce)
                .setSenderKID(protection.senderKID())
                .setMessageTime(new Date())
                .setBody(new PKIBody(type, content));
            if (recipNonce != null) {
                builder.setRecipNonce(recipNonce);
            }
            if (implicit) {
                builder.addGeneralInfo(new InfoTypeAndValue(
                    CMPObjectIdentifiers.it_implicitConfirm,
                    DERNull.INSTANCE));
            }
            GeneralPKIMessage answer = new GeneralPKIMessage(
                post(protection.build(builder).toASN1Structure()
                    .getEncoded("DER")));
            check(answer.hasProtection(), "the answer is not protected");
            ProtectedPKIMessage read = new ProtectedPKIMessage(answer);
            PKIHeader header = read.getHeader();
            check(Arrays.equals(
                transaction, header.getTransactionID().getOctets()),
                "transactionID");
            check(Arrays.equals(nonce, header.getRecipNonce().getOctets()),
                "recipNonce");
            // RFC 9483, section 3.2: an error may be signed in place of it.
            check(PKIBody.TYPE_ERROR == read.getBody().getType()
                ? signed(read) : protection.verify(read),
                "the answer's protection is wrong");
            recipNonce = header.getSenderNonce().getOctets();
            return read;
        }
    }

    static byte[] post(byte[] message) throws Exception {
        HttpURLConnection connection =
            (HttpURLConnection) url.openConnection();
        connection.setDoOutput(true);
        connection.setReadTimeout(30000);
        connection.setRequestProperty("Content-Type", "application/pkixcmp");
        try (OutputStream body = connection.getOutputStream()) {
            body.write(message);
        }
        check(200 == connection.getResponseCode(),
            "HTTP " + connection.getResponseCode());
        check("application/pkixcmp".equals(connection.getContentType()),
            "Content-Type");
        return connection.getInputStream().readAllBytes();
    }

    // --- protection ---------------------------------------------------------

    /** How messages are protected, and answers verified. */
    interface Protection {
        GeneralName sender() throws Exception;

        byte[] senderKID() throws Exception;

        ProtectedPKIMessage build(ProtectedPKIMessageBuilder builder)
            throws Exception;

        boolean verify(ProtectedPKIMessage answer) throws Exception;
    }

    /** A shared secret, whose reference is the sender's common name. */
    abstract static class Secret implements Protection {
        final String reference;
        final char[] secret;

        Secret(String reference, String secret) {
            this.reference = reference;
            this.secret = secret.toCharArray();
        }

        abstract MacCalculator calculator() throws Exception;

        abstract PBEMacCalculatorProvider verifier();

        public GeneralName sender() {
            return new GeneralName(new X500NameBuilder()
                .addRDN(BCStyle.CN, reference).build());
        }

        public byte[] senderKID() throws Exception {
            return reference.getBytes("UTF-8");
        }

        public ProtectedPKIMessage build(ProtectedPKIMessageBuilder builder)
                throws Exception {
            return builder.build(calculator());
        }

        public boolean verify(ProtectedPKIMessage answer) throws Exception {
            return answer.verify(verifier(), secret);
        }
    }

    static class PBMAC1 extends Secret {
        PBMAC1(String reference, String secret) {
            super(reference, secret);
        }

        MacCalculator calculator() throws Exception {
            return new JcePBMac1CalculatorBuilder("HmacSHA256", 256)
                .setIterationCount(2048)
                .setSaltLength(16)
                .setPrf(JcePBMac1CalculatorBuilder.PRF_SHA256)
                .setRandom(random)
                .setProvider("BC").build(secret);
        }

        PBEMacCalculatorProvider verifier() {
            return new JcePBMac1CalculatorProviderBuilder()
                .setProvider("BC").build();
        }

        public boolean verify(ProtectedPKIMessage answer) throws Exception {
            check(PKCSObjectIdentifiers.id_PBMAC1.equals(
                answer.getHeader().getProtectionAlg().getAlgorithm()),
                "the answer is not under PBMAC1");
            return super.verify(answer);
        }
    }

    static class PasswordBasedMac extends Secret {
        PasswordBasedMac(String reference, String secret) {
            super(reference, secret);
        }

        PKMACBuilder builder() {
            return new PKMACBuilder(
                new JcePKMACValuesCalculator().setProvider("BC"))
                .setSecureRandom(random).setIterationCount(1000);
        }

        MacCalculator calculator() throws Exception {
            return builder().build(secret);
        }

        PBEMacCalculatorProvider verifier() {
            return builder();
        }

        public boolean verify(ProtectedPKIMessage answer) throws Exception {
            check(answer.hasPasswordBasedMacProtection(),
                "the answer is not under PasswordBasedMac");
            return super.verify(answer);
        }
    }

    static class Signature implements Protection {
        final X509CertificateHolder certificate;
        final KeyPair key;

        Signature(X509CertificateHolder certificate, KeyPair key) {
            this.certificate = certificate;
            this.key = key;
        }

        public GeneralName sender() {
            return new GeneralName(certificate.getSubject());
        }

        public byte[] senderKID() {
            return SubjectKeyIdentifier.fromExtensions(
                certificate.getExtensions()).getKeyIdentifier();
        }

        public ProtectedPKIMessage build(ProtectedPKIMessageBuilder builder)
                throws Exception {
            return builder.addCMPCertificate(certificate)
                .build(new JcaContentSignerBuilder("SHA256withECDSA")
                .setProvider("BC").build(key.getPrivate()));
        }

        public boolean verify(ProtectedPKIMessage answer) throws Exception {
            return signed(answer);
        }
    }

    /** Verifies a signature, its certificate up to the root, and its name. */
    static boolean signed(ProtectedPKIMessage answer) throws Exception {
        X509CertificateHolder[] certificates = answer.getCertificates();
        X509CertificateHolder signer = certificates[0];
        trusted(signer, certificates);
        check(answer.getHeader().getSender().equals(
            new GeneralName(signer.getSubject())), "sender");
        return answer.verify(new JcaContentVerifierProviderBuilder()
            .setProvider("BC").build(signer));
    }

    /** Verifies a path to the root by what came along. */
    static void trusted(
            X509CertificateHolder certificate, X509CertificateHolder[] along)
            throws Exception {
        JcaX509CertificateConverter converter =
            new JcaX509CertificateConverter().setProvider("BC");
        List<X509Certificate> known = new ArrayList<>();
        X509Certificate leaf = converter.getCertificate(certificate);
        known.add(leaf);
        for (X509CertificateHolder one : along) {
            known.add(converter.getCertificate(one));
        }
        X509CertSelector wanted = new X509CertSelector();
        wanted.setCertificate(leaf);
        PKIXBuilderParameters parameters = new PKIXBuilderParameters(
            Collections.singleton(new TrustAnchor(root, null)), wanted);
        parameters.addCertStore(CertStore.getInstance(
            "Collection", new CollectionCertStoreParameters(known)));
        parameters.setRevocationEnabled(false);
        CertPathBuilder.getInstance("PKIX", "BC").build(parameters);
    }

    // --- parts --------------------------------------------------------------

    static CertReqMessages request(String name, KeyPair key)
            throws Exception {
        JcaCertificateRequestMessageBuilder builder =
            new JcaCertificateRequestMessageBuilder(BigInteger.ZERO);
        builder.setPublicKey(key.getPublic())
            .setSubject(new X500Name("CN=" + name))
            .addExtension(Extension.subjectAlternativeName, false,
                new GeneralNames(new GeneralName(
                    GeneralName.dNSName, name + ".example")))
            .setProofOfPossessionSigningKeySigner(
                new JcaContentSignerBuilder("SHA256withECDSA")
                .setProvider("BC").build(key.getPrivate()));
        return new CertReqMessages(builder.build().toASN1Structure());
    }

    /** Returns a body's content, if it is of a type. */
    static ASN1Encodable content(ProtectedPKIMessage answer, int type)
            throws Exception {
        PKIBody body = answer.getBody();
        if (PKIBody.TYPE_ERROR == body.getType() && type != body.getType()) {
            granted(ErrorMsgContent.getInstance(body.getContent())
                .getPKIStatusInfo());
        }
        check(type == body.getType(), "an answer of type " + body.getType());
        return body.getContent();
    }

    /** Accepts the statuses accepted and grantedWithMods. */
    static void granted(PKIStatusInfo status) {
        check(status.getStatus().intValue() < 2, status.getStatusString() ==
            null ? "refused" : status.getStatusString()
            .getStringAtUTF8(0).getString());
    }

    /** Tells whether confirmation is granted to be implicit. */
    static boolean granted(ProtectedPKIMessage answer) {
        InfoTypeAndValue[] information = answer.getHeader().getGeneralInfo();
        for (int i = 0; information != null && i < information.length; i++) {
            if (CMPObjectIdentifiers.it_implicitConfirm.equals(
                    information[i].getInfoType())) {
                return true;
            }
        }
        return false;
    }

    static KeyPair newKey() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", "BC");
        generator.initialize(new ECGenParameterSpec("secp256r1"));
        return generator.generateKeyPair();
    }

    static byte[] bytes(int count) {
        byte[] made = new byte[count];
        random.nextBytes(made);
        return made;
    }

    static void check(boolean right, String what) {
        if (!right) {
            throw new IllegalStateException(what);
        }
    }

    static void write(File folder, String name, X509CertificateHolder made)
            throws Exception {
        try (JcaPEMWriter out =
                new JcaPEMWriter(new FileWriter(new File(folder, name)))) {
            out.writeObject(made);
        }
    }
}
